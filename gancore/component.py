"""Component: the base of all kinds, a frozen model of hyperparameters that is found by its name."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from inspect import get_annotations, isabstract
from math import isfinite
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    runtime_checkable,
)

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from gancore.errors import ConfigError, blame
from gancore.settings import REMOVE, Schedulable, Settings, error_details

C = TypeVar("C", bound="Component")


@runtime_checkable
class Finder(Protocol):
    """Anything that finds a component's class by its name, such as the catalog.

    As the `context` of a pydantic validation it lets components validate from data that names them.
    """

    def find(self, kind: type[Component], name: str) -> type[Component]: ...


class Component(Settings, ABC):
    """Base of all kinds. A concrete component sets `name`, and the first line of its docstring is its summary.

    A field is a bool, int, float, str, Literal, Schedulable, another component, or a tuple of these. It may be
    `| None` with the default None. So every component is hashable and survives a round trip through TOML and JSON.
    """

    # Let pydantic accept every type, so that the check below rejects it with a message that names the field.
    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: ClassVar[str]
    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:  # Any: passed on to pydantic
        for key, annotation in get_annotations(cls).items():
            if "ClassVar" in str(annotation):
                continue
            if key in {"build", "kind", "name"} or any(_is_reserved(base, key) for base in cls.__bases__):
                raise _field_error(cls, key, "the name is reserved by Component; choose another")
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # Any: as above
        for key, info in cls.model_fields.items():
            received = f"received {info.default!r}"
            if not _is_field_type(info.annotation):
                types = (
                    "bool, int, float, str, Literal, Schedulable, a component or a tuple of these, optionally `| None`"
                )
                raise _field_error(cls, key, f"the type of a field must be {types}; received {info.annotation}")
            if NoneType in get_args(info.annotation) and info.default is not None:
                rule = "the default of an optional field must be None, since TOML has no null"
                raise _field_error(cls, key, f"{rule}; {received}")
            if not _is_writable(info.default):
                rule = f"the default must be finite and not {REMOVE!r}, so that a TOML file can contain it"
                raise _field_error(cls, key, f"{rule}; {received}")
        for key, default, problem in _invalid_defaults(cls):
            raise _field_error(cls, key, f"the default is not valid for its field; received {default!r}: {problem}")
        super().__pydantic_init_subclass__(**kwargs)

    @model_validator(mode="wrap")
    @classmethod
    def _find(cls, data: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Read `"mlp"` or `{name = "mlp", …}`; an abstract kind looks the name up in the catalog."""
        if isinstance(data, str):
            data = {"name": data}
        if not isinstance(data, Mapping | Component):
            raise PydanticCustomError("component_type", "Input should be a name, or a table with a `name`")
        if isinstance(data, Component) or not (is_abstract(cls) or "name" in data):
            return _validated(cls, handler, data)
        if not isinstance(data.get("name"), str):
            raise PydanticCustomError("missing_name", "the table of a component must have a `name`")
        fields = {key: value for key, value in data.items() if key != "name"}
        if not isinstance(info.context, Finder):
            raise PydanticCustomError("no_catalog", "a component's name can be looked up only with a catalog")
        try:
            found = info.context.find(_kind_of(cls), data["name"])
        except ConfigError as error:
            problem = error_details("unknown_name", str(error), ("name",), data)
            raise ValidationError.from_exception_data(cls.__name__, [problem]) from None
        if found is cls:
            return _validated(cls, handler, fields)
        if not issubclass(found, cls):
            raise PydanticCustomError("wrong_component", f"only {cls.name!r} is allowed here")
        return found.model_validate(fields, context=info.context)

    @model_validator(mode="after")
    def _check_writable(self) -> Self:
        for key in type(self).model_fields:
            if getattr(self, key) == REMOVE:
                raise ValueError(f"{key}: {REMOVE!r} removes a key in a file, so it cannot be a value")
        return self

    def head(self, name_of: Callable[[type[Settings]], str]) -> dict[str, object]:
        return {"name": name_of(type(self))}

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


def _field_error(cls: type[Component], key: str, problem: str) -> TypeError:
    """Return the error of a wrong field. The class is defined during an import, so the import fails with it."""
    return TypeError(f"{cls.__name__}.{key}: {problem} (to test a fix: gancore plugins check FILE)")


def _validated(cls: type[C], handler: ModelWrapValidatorHandler[C], data: object) -> C:
    """Return the validated component. Any exception but the ValueError of a validator is the component's failure."""
    with blame(f"{cls.kind} {getattr(cls, 'name', cls.__name__)!r}", "when its fields were read"):
        try:
            return handler(data)
        except ValidationError as error:
            invalid = error
    raise invalid


def components_in(value: object) -> Iterator[Component]:
    """Yield the value itself, if it is a component, and all components nested in it, in settings, tables and lists."""
    if isinstance(value, Component):
        yield value
    if isinstance(value, Settings):
        value = [item for _, item in value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in items:
        yield from components_in(item)


def is_abstract(cls: type[Component]) -> bool:
    """Return whether the class cannot be instantiated: an abstract method is left, or it has no name."""
    return isabstract(cls) or not hasattr(cls, "name")


def _is_reserved(base: type, key: str) -> bool:
    """Return whether the base has an attribute of this name that is not a field. Fields may be redefined."""
    return issubclass(base, Component) and hasattr(base, key) and key not in base.model_fields


def _kind_of(cls: type[Component]) -> type[Component]:
    return next(base for base in cls.__mro__ if "kind" in vars(base))


def _is_writable(default: object) -> bool:
    if isinstance(default, tuple):
        return all(map(_is_writable, default))
    return isfinite(default) if isinstance(default, float) else not isinstance(default, str) or default != REMOVE


def _invalid_defaults(cls: type[Component]) -> Iterator[tuple[str, object, str]]:
    """Yield the fields whose defaults fail their own validation, with the default and the problem."""
    if is_abstract(cls) or not hasattr(cls, "kind"):
        return  # it cannot be instantiated
    try:
        cls.model_validate({})
    except ValidationError as error:
        for line in error.errors(include_url=False):
            key = str(line["loc"][0]) if line["loc"] else ""
            # A required field has no default, and a default that is a name needs a catalog.
            if key in cls.model_fields and line["type"] not in ("missing", "no_catalog"):
                yield key, line["input"], line["msg"]
    except Exception:
        return  # a validator failed, perhaps because its module is still being imported; a run will report it


def _is_field_type(annotation: object) -> bool:
    if annotation in (bool, int, float, str, Schedulable):
        return True
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return True
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        # In a config `none` removes a key, so it cannot also be a value.
        return all(isinstance(value, bool | int | str) and value != REMOVE for value in inner)
    if origin is Annotated:
        return _is_field_type(inner[0])
    if origin is tuple:
        return all(item is Ellipsis or (_is_field_type(item) and NoneType not in get_args(item)) for item in inner)
    if origin in (Union, UnionType):
        return all(item is NoneType or _is_field_type(item) for item in inner)
    return False
