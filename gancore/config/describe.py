"""Description of the fields of settings, for help texts and the reference."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import astuple
from typing import Annotated, Any, Literal, TypedDict, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gancore.component import Component
from gancore.config import toml
from gancore.settings import Schedulable, Schedule, Settings, plain

S = TypeVar("S", bound=Settings)
_SIGNS = {annotated_types.Ge: ">=", annotated_types.Gt: ">", annotated_types.Le: "<=", annotated_types.Lt: "<"}


class Field(TypedDict):
    """A key with its type, its default as a file would contain it, its bounds and its help."""

    key: str
    type: str
    default: Any  # Any: data of a file
    bounds: str
    help: str


def describe(settings: type[Settings]) -> list[Field]:
    """Return all keys; those of nested tables have dotted paths."""
    return list(_fields(settings, ""))


def _fields(settings: type[Settings], prefix: str) -> Iterator[Field]:
    for name, info in settings.model_fields.items():
        key, text = prefix + (info.alias or name), info.description or ""
        table = _class_in(info.annotation, Settings)
        if table is None or issubclass(table, Component | Schedule):
            component = _class_in(info.annotation, Component)
            yield Field(
                key=key,
                type=_type(info.annotation),
                default=None if info.default is PydanticUndefined else plain(info.default, _name),
                bounds=", ".join(_bounds(info)),
                help=text or (component.summary().rstrip(".").lower() if component else ""),
            )
            continue
        if types.NoneType in get_args(info.annotation):
            yield Field(key=key, type="table or absent", default=None, bounds="", help=text)
        yield from _fields(table, f"{key}.")


def _class_in(annotation: object, base: type[S]) -> type[S] | None:
    """Return the class of a field, optional or not, if it is derived from `base`."""
    choices = (annotation, *get_args(annotation))
    return next((choice for choice in choices if isinstance(choice, type) and issubclass(choice, base)), None)


def _name(component: type[Settings]) -> str:
    return component.name if issubclass(component, Component) else component.__name__


def _type(annotation: Any) -> str:  # Any: any annotation
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Schedulable:
        return "float or {from, to, kimg, shape} or a list of these"
    if annotation is types.NoneType:
        return "absent"
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return " or ".join(toml.literal(value) for value in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}" if inner[-1] is Ellipsis else f"[{', '.join(map(_type, inner))}]"
    if origin is dict:
        return f"tables, each under a label: {_type(inner[1])}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_type, inner))
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return f"name of {'an' if annotation.kind[0] in 'aeiou' else 'a'} {annotation.kind}, or its table"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        more = ["…"] if annotation.model_config.get("extra") == "allow" else []
        return f"{{{', '.join([*annotation.keys(), *more])}}}"
    return getattr(annotation, "__name__", str(annotation))


def _bounds(info: FieldInfo) -> Iterator[str]:
    inner = [item for part in get_args(info.annotation) for item in getattr(part, "__metadata__", ())]
    for item in (*info.metadata, *inner):
        for constraint in item.metadata if isinstance(item, FieldInfo) else [item]:
            if type(constraint) in _SIGNS:
                yield f"{_SIGNS[type(constraint)]} {astuple(constraint)[0]}"
