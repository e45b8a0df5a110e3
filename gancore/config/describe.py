"""Description of the fields of settings, for help texts and the reference."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gancore.component import Component
from gancore.config import toml
from gancore.settings import Schedulable, Schedule, Settings, plain


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
        key = prefix + (info.alias or name)
        table = _table(info.annotation)
        if table is not None and types.NoneType in get_args(info.annotation):
            yield Field(key=key, type="table or absent", default=None, bounds="", help=info.description or "")
        if table is not None:
            yield from _fields(table, f"{key}.")
        else:
            yield Field(
                key=key,
                type=_type(info.annotation),
                default=None if info.default is PydanticUndefined else plain(info.default, _name),
                bounds=", ".join(_bounds(info)),
                help=info.description or _kind_help(info.annotation),
            )


def _table(annotation: object) -> type[Settings] | None:
    """Return the settings class of a field that is a table, optional or not; None for other fields."""
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and issubclass(choice, Settings) and not issubclass(choice, Component | Schedule):
            return choice
    return None


def _kind_help(annotation: object) -> str:
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and issubclass(choice, Component):
            return choice.summary().rstrip(".").lower()
    return ""


def _name(component: type[Settings]) -> str:
    return component.name if issubclass(component, Component) else component.__name__


def _type(annotation: Any) -> str:  # Any: any annotation
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Schedulable:
        return "float or {from, to, kimg, shape}"
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
    return getattr(annotation, "__name__", str(annotation))


def _bounds(info: FieldInfo) -> Iterator[str]:
    metadata = list(info.metadata)
    for inner in get_args(info.annotation):
        metadata += getattr(inner, "__metadata__", ())
    for item in metadata:
        constraints = item.metadata if isinstance(item, FieldInfo) else [item]
        for constraint in constraints:
            match constraint:
                case annotated_types.Ge(bound):
                    yield f">= {bound}"
                case annotated_types.Gt(bound):
                    yield f"> {bound}"
                case annotated_types.Le(bound):
                    yield f"<= {bound}"
                case annotated_types.Lt(bound):
                    yield f"< {bound}"
