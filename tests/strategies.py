"""Hypothesis strategies: components drawn from their own fields, and small shapes."""

from dataclasses import astuple
from inspect import isabstract
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import annotated_types as at
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from gancore.metrics import Extractor, Metric
from gancore.settings import Schedulable, Schedule
from worlds import catalog

LIMITS = (at.Ge, at.Gt, at.Le, at.Lt, at.MinLen, at.MaxLen)


def components(cls, largest=1000, **overrides):
    """Valid instances of a component (of all that the catalog offers, for an abstract kind) or of other settings.

    Ints are at most `largest`, or at their lower bound. `overrides` are strategies for single fields.
    """
    if issubclass(cls, Metric) and not isabstract(cls) and cls.needs & {"features", "labels"}:
        overrides = {"extractor": components(Extractor, largest), **overrides}
    if "group_width" in cls.model_fields:  # it must divide twice another field
        overrides = {"group_width": st.sampled_from([1, 2]), **overrides}
    if isabstract(cls):
        return st.one_of([components(offered, largest) for offered, _ in catalog().offers(cls)])
    fields = {key: _values(info.annotation, info.metadata, largest) for key, info in cls.model_fields.items()}
    return st.builds(cls, **fields | overrides)


def _values(annotation, metadata, largest):
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(inner[0], inner[1:], largest)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        return st.one_of([_values(item, metadata, largest) for item in inner])
    if annotation is Schedulable:
        ends = _values(float, metadata, largest)
        return ends | components(Schedule, largest, start=ends, to=ends)
    flat = [limit for item in metadata for limit in (item.metadata if isinstance(item, FieldInfo) else [item])]
    limit = {type(item): astuple(item)[0] for item in flat if isinstance(item, LIMITS)}
    sizes = {"min_size": limit.get(at.MinLen, 0), "max_size": limit.get(at.MaxLen, 4)}
    if origin is dict:  # components under labels
        return st.dictionaries(st.text("abc", min_size=1), components(inner[1], largest), max_size=2)
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(_values(inner[0], (), largest), **sizes).map(tuple)
    if origin is tuple:
        return st.tuples(*(_values(item, (), largest) for item in inner))
    if annotation is NoneType:
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        low = limit.get(at.Ge, limit.get(at.Gt, -largest - 1) + 1)
        return st.integers(low, max(low, min(limit.get(at.Le, limit.get(at.Lt, largest + 1) - 1), largest)))
    if annotation is float:
        low, high = limit.get(at.Ge, limit.get(at.Gt)), limit.get(at.Le, limit.get(at.Lt))
        ends = {"exclude_min": at.Gt in limit, "exclude_max": at.Lt in limit}
        return st.floats(low, high, allow_nan=False, allow_infinity=False, **ends)
    if annotation is str:
        return st.text(**sizes).filter(lambda text: text != "none")
    return components(annotation, largest)


def shapes():
    """(C, H, W) or (F,), small."""
    side = st.integers(1, 12)
    return st.tuples(st.sampled_from([1, 3, 4]), side, side) | st.tuples(st.integers(1, 64))
