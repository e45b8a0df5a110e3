"""What every component is, whatever its kind: a frozen model of its own hyperparameters, found by its name."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import get_annotations, isabstract
from math import isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar, Union, get_args, get_origin

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gancore.errors import ConfigError, blame
from gancore.settings import REMOVE, Schedulable, Settings

C = TypeVar("C", bound="Component")


class Finder(Protocol):
    """Finds the class of a component by its name; the catalog is one."""

    def find(self, kind: type[Component], name: str) -> type[Component]: ...


class Component(Settings, ABC):
    """The base of every kind. A concrete component sets `name`; its first docstring line is its summary.

    Fields are bool, int, float, str, Literal, tuples of these, `| None` (with None as the default), a schedulable
    value, or another component. Nothing else, so that every component survives TOML and JSON unchanged and is hashable.
    """

    # pydantic lets all types pass, so that the check below has the word, which names the field.
    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: ClassVar[str]
    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:  # Any: handed on to pydantic as it came
        for key, annotation in get_annotations(cls).items():
            if "ClassVar" in str(annotation):
                continue
            if key in {"build", "kind", "name"} or any(_owns(base, key) for base in cls.__bases__):
                raise TypeError(f"{cls.__name__}.{key}: this name belongs to every component; choose another")
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # Any: as above
        for key, info in cls.model_fields.items():
            if not _may_be_a_field(info.annotation):
                raise TypeError(
                    f"{cls.__name__}.{key}: a field is a bool, int, float, str, Literal, a tuple of these, a "
                    f"schedulable value or a component, each perhaps `| None`; received {info.annotation}"
                )
            if NoneType in get_args(info.annotation) and info.default is not None:
                raise TypeError(
                    f"{cls.__name__}.{key}: the default of an optional field is None, since files hold no null; "
                    f"received {info.default!r}"
                )
            if not _can_be_written(info.default):
                raise TypeError(
                    f"{cls.__name__}.{key}: the default must be one that a file can hold, finite and not {REMOVE!r}; "
                    f"received {info.default!r}"
                )
        for key, received, problem in _wrong_defaults(cls):
            raise TypeError(
                f"{cls.__name__}.{key}: the default must be a value of its field; received {received!r}: {problem}"
            )
        super().__pydantic_init_subclass__(**kwargs)

    @model_validator(mode="wrap")
    @classmethod
    def _find(cls, data: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Reads `"mlp"` or `{name = "mlp", …}`; an abstract kind looks the name up in the catalog."""
        if isinstance(data, str):
            data = {"name": data}
        if not isinstance(data, Mapping | Component):
            raise PydanticCustomError("component_type", "Input should be a name, or a table with a `name`")
        if isinstance(data, Component) or not (isabstract(cls) or "name" in data):
            return _validated(cls, handler, data)
        if not isinstance(data.get("name"), str):
            raise PydanticCustomError("missing_name", "a table of a component must hold its `name`")
        fields = {key: value for key, value in data.items() if key != "name"}
        if not isinstance(info.context, _Context):
            raise PydanticCustomError("no_catalog", "names can only be looked up where a catalog is given")
        try:
            found = info.context.finder.find(_kind_of(cls), data["name"])
        except ConfigError as error:
            problem = InitErrorDetails(type=PydanticCustomError("unknown_name", str(error)), loc=("name",), input=data)
            raise ValidationError.from_exception_data(cls.__name__, [problem]) from None
        if found is cls:
            return _validated(cls, handler, fields)
        if not issubclass(found, cls):
            raise PydanticCustomError("wrong_component", f"only {cls.name!r} can stand here")
        return found.model_validate(fields, context=info.context)

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        for key in type(self).model_fields:
            if getattr(self, key) == REMOVE:
                raise ValueError(f"{key}: {REMOVE!r} takes a key away in a file, so it cannot be a value")
        return self

    def head(self, name_of: Callable[[type[Any]], str]) -> dict[str, object]:
        return {"name": name_of(type(self))}

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


def _validated(cls: type[C], handler: ModelWrapValidatorHandler[C], data: object) -> C:
    """What the fields make. A validator refuses by a ValueError; whatever else it raises is the component's failure."""
    with blame(f"{cls.kind} {getattr(cls, 'name', cls.__name__)!r}", "when its fields were read"):
        try:
            return handler(data)
        except ValidationError as error:
            refused = error
    raise refused


@dataclass(frozen=True)
class _Context:
    finder: Finder


def lookup(finder: Finder) -> object:
    """The context in which components validate from data that names them."""
    return _Context(finder)


def finder_of(info: ValidationInfo) -> Finder | None:
    """What `lookup` put into the context of a validation."""
    return info.context.finder if isinstance(info.context, _Context) else None


def components_in(value: object) -> Iterator[Component]:
    """The component itself, if it is one, and all that lie in it, in settings, tables and lists."""
    if isinstance(value, Component):
        yield value
    if isinstance(value, Settings):
        value = [getattr(value, key) for key in type(value).model_fields]
    elif isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from components_in(item)


def _owns(base: type, key: str) -> bool:
    """Whether the name is an attribute of the base, and not a field, which may be declared anew."""
    return issubclass(base, Component) and hasattr(base, key) and key not in base.model_fields


def _kind_of(cls: type[Component]) -> type[Component]:
    return next(base for base in cls.__mro__ if "kind" in vars(base))


def _can_be_written(default: object) -> bool:
    if isinstance(default, tuple):
        return all(map(_can_be_written, default))
    return isfinite(default) if isinstance(default, float) else not isinstance(default, str) or default != REMOVE


def _wrong_defaults(cls: type[Component]) -> Iterator[tuple[str, object, str]]:
    """The fields whose defaults their own validation refuses, when a component is named and nothing else is said."""
    if isabstract(cls) or not hasattr(cls, "kind"):
        return  # nothing that can be named
    try:
        cls.model_validate({})
    except ValidationError as error:
        for line in error.errors(include_url=False):
            key = str(line["loc"][0]) if line["loc"] else ""
            # What must be given has no default, and a default that is a name is for a catalog to look up.
            if key in cls.model_fields and line["type"] not in ("missing", "no_catalog"):
                yield key, line["input"], line["msg"]
    except Exception:
        return  # a validator failed, perhaps since its module is not whole yet; a run that needs it says so


def _may_be_a_field(annotation: object) -> bool:
    if annotation in (bool, int, float, str, Schedulable):
        return True
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return True
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        # On the command line `none` takes a key away, so it cannot also be a value.
        return all(isinstance(value, bool | int | str) and value != REMOVE for value in inner)
    if origin is Annotated:
        return _may_be_a_field(inner[0])
    if origin is tuple:
        return all(item is Ellipsis or (_may_be_a_field(item) and NoneType not in get_args(item)) for item in inner)
    if origin in (Union, UnionType):
        return all(item is NoneType or _may_be_a_field(item) for item in inner)
    return False
