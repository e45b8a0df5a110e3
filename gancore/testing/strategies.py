"""Hypothesis strategies for components, drawn from their fields, and for the cases that they are tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

import annotated_types as at
from hypothesis import reject
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gancore.component import Component, is_abstract
from gancore.contracts import Condition, Shape
from gancore.settings import PiecewiseSchedule, Schedulable, Schedule, Settings
from gancore.testing.cases import Case

_DRAWN = 63
"""Number of drawn components per component with all defaults, which may be large. That one is still tried first."""
_LIMITS = (at.Ge, at.Gt, at.Le, at.Lt, at.MinLen, at.MaxLen)


class Offers(Protocol):
    """Anything that lists the components of a kind, like a catalog."""

    def offers(self, kind: type[Any], /) -> Sequence[tuple[type[Any], object]]: ...  # Any: any kind


@dataclass(frozen=True)
class Bounds:
    """Limits of drawn values, in addition to those of their fields.

    Ints are at most `largest`, or at their lower bound. With `reach`, floats are in [-reach, reach], and those that
    must be positive are at least 0.001. With `letters`, text consists of these and is not empty, so that a field with a
    path names no existing file.
    """

    largest: int = 1000
    reach: float | None = None
    letters: str | None = None


def components(
    cls: type[Settings], offers: Offers | None = None, bounds: Bounds = Bounds(), **overrides: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Draw valid instances of a component or other settings; for an abstract kind, of all that `offers` lists.

    `overrides` are strategies for single fields. Combinations of fields that validation refuses are drawn again. The
    first instance has all defaults, if every field has one. Components of a kind may hold others of the same kind.
    """
    return _Strategies(offers, bounds, {}).settings(cls, overrides)


def shapes() -> st.SearchStrategy[Shape]:
    """Draw small shapes (C, H, W) or (F,); most sides can be halved."""
    return _images() | st.tuples(st.integers(1, 16))


def _images() -> st.SearchStrategy[Shape]:
    side = st.sampled_from([8, 16]) | st.integers(1, 12)
    squares = st.sampled_from([(8, 8), (16, 16), (28, 28), (32, 32), (8, 16), (16, 8)])
    sides = squares | st.tuples(side, side)
    return st.tuples(st.sampled_from([1, 3, 4]), sides).map(lambda drawn: (drawn[0], *drawn[1]))


def conditions() -> st.SearchStrategy[Condition | None]:
    """Draw conditions: none, a number of classes, or a tensor."""
    return st.none() | st.integers(2, 4) | st.sampled_from([(1,), (2,), (3,), (1, 4, 4)])


def cases(drawn: st.SearchStrategy[Shape] | None = None, *, stored: bool = False) -> st.SearchStrategy[Case]:
    """Draw cases to test a component with, with shapes of this strategy.

    By default these are images, vectors and series. With `stored` they are what evaluations and augmentations receive:
    images of which the range is known, or vectors.
    """
    if drawn is None:
        series = st.tuples(st.integers(1, 3), st.integers(1, 32))
        others = st.tuples(st.integers(1, 16)) if stored else st.tuples(st.integers(1, 16)) | series
        drawn = st.integers(0, 3).flatmap(lambda index: others if index == 3 else _images())

    def of_shape(shape: Shape) -> st.SearchStrategy[Case]:
        usual = len(shape) == 3
        unusual = st.just(0) if stored else st.integers(0, 4)
        return st.builds(
            Case,
            shape=st.just(shape),
            latent_dim=st.integers(1, 8),
            count=st.integers(2, 5),
            condition=conditions(),
            logits=st.integers(1, 3),
            scale=st.sampled_from([1.0, 100.0, 10_000.0]),
            bounded=unusual.map(lambda index: usual if index < 4 else not usual),
            mirrors=st.booleans(),
            seed=st.integers(0, 999),
        )

    return drawn.flatmap(of_shape)


@dataclass(frozen=True)
class _Strategies:
    """Strategies for settings and their fields. `kinds` has those of abstract kinds, one each, since they may nest."""

    offers: Offers | None
    bounds: Bounds
    kinds: dict[type[Settings], st.SearchStrategy[Any]]  # Any: instances of the class

    def settings(
        self, cls: type[Settings], overrides: Mapping[str, st.SearchStrategy[Any]] = MappingProxyType({})
    ) -> st.SearchStrategy[Any]:  # Any: as in `components`
        if issubclass(cls, Component) and is_abstract(cls):
            return self._kind(cls)
        fields = {key: self.values(info.annotation, info.metadata) for key, info in cls.model_fields.items()}

        def build(**values: Any) -> Settings:  # Any: values of fields
            try:
                return cls(**values)
            except ValidationError:
                reject()

        drawn = st.builds(build, **{**fields, **overrides})
        if any(info.is_required() for key, info in cls.model_fields.items() if key not in overrides):
            return drawn
        defaults = st.builds(build, **overrides)
        return st.integers(0, _DRAWN).flatmap(lambda index: drawn if index else defaults)

    def _kind(self, kind: type[Component]) -> st.SearchStrategy[Any]:  # Any: instances of the kind
        if self.offers is None:
            return st.nothing()
        if kind not in self.kinds:
            offered = [component for component, _ in self.offers.offers(kind)]
            self.kinds[kind] = st.deferred(lambda: st.one_of([self.settings(component) for component in offered]))
        return self.kinds[kind]

    def values(self, annotation: Any, metadata: Sequence[Any]) -> st.SearchStrategy[Any]:  # Any: the type of a field
        origin, inner = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self.values(inner[0], inner[1:])
        if origin is Literal:
            return st.sampled_from(inner)
        if origin in (Union, UnionType):
            return st.one_of([self.values(item, metadata) for item in inner])
        if annotation is Schedulable:
            ends = self.values(float, metadata)
            piece = self.settings(Schedule, {"start": ends, "to": ends})
            before = st.lists(piece.filter(lambda schedule: schedule.kimg is not None), min_size=1, max_size=2)
            return ends | piece | st.builds(lambda first, last: PiecewiseSchedule(pieces=(*first, last)), before, piece)
        limits = _limits(metadata)
        if origin is dict:  # components by label
            tables = self.settings(inner[1])
            return st.dictionaries(st.text("abc", min_size=1), tables, max_size=2)
        least = limits.get(at.MinLen, 0)
        sizes = {"min_size": least, "max_size": limits.get(at.MaxLen, max(4, least))}
        if origin is tuple and inner[-1] is Ellipsis:
            return st.lists(self.values(inner[0], ()), **sizes).map(tuple)
        if origin is tuple:
            return st.tuples(*(self.values(item, ()) for item in inner))
        if annotation is str:
            return self._texts(sizes)
        return self._single(annotation, limits)

    def _single(self, annotation: Any, limits: dict[type, Any]) -> st.SearchStrategy[Any]:  # Any: as above
        if annotation is NoneType:
            return st.none()
        if annotation is bool:
            return st.booleans()
        if annotation is int:
            largest = self.bounds.largest
            low = limits.get(at.Ge, limits.get(at.Gt, -largest - 1) + 1)
            return st.integers(low, max(low, min(limits.get(at.Le, limits.get(at.Lt, largest + 1) - 1), largest)))
        if annotation is float:
            return self._floats(limits)
        return self.settings(annotation)

    def _texts(self, sizes: dict[str, Any]) -> st.SearchStrategy[str]:  # Any: as above
        if self.bounds.letters is not None:
            sizes = sizes | {"min_size": max(1, sizes["min_size"])}
            return st.text(self.bounds.letters, **sizes)
        return st.text(**sizes).filter(lambda text: text != "none")

    def _floats(self, limits: dict[type, Any]) -> st.SearchStrategy[float]:  # Any: as above
        low, high = limits.get(at.Ge, limits.get(at.Gt)), limits.get(at.Le, limits.get(at.Lt))
        above, below = at.Gt in limits, at.Lt in limits
        if self.bounds.reach is not None:
            least, most = -self.bounds.reach, self.bounds.reach
            if above and low == 0:
                least = 1e-3 if high is None else min(1e-3, high / 2)
            low, above = (least, False) if low is None or low < least else (low, above)
            high, below = (most, False) if high is None or high > most else (high, below)
            high = max(low, high)
        return st.floats(low, high, allow_nan=False, allow_infinity=False, exclude_min=above, exclude_max=below)


def _limits(metadata: Sequence[Any]) -> dict[type, Any]:  # Any: metadata of an annotation
    """Return bounds by their class in annotated_types."""
    flat = [limit for item in metadata for limit in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return {type(item): astuple(item)[0] for item in flat if isinstance(item, _LIMITS)}
