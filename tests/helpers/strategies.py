"""Hypothesis strategies: those of gancore.testing, with the components of the worlds, and more shapes."""

from inspect import isabstract

from hypothesis import strategies as st

from gancore import testing
from gancore.metrics import Extractor, Metric
from helpers.tiny_components import catalog


def components(cls, **overrides):
    """Valid instances of a component, or of other settings; of all that the catalog offers, for an abstract kind."""
    if isabstract(cls):
        return st.one_of([components(offered) for offered, _ in catalog().offers(cls)])
    if issubclass(cls, Metric) and cls.needs & {"features", "labels"}:
        overrides = {"extractor": components(Extractor), **overrides}
    if "group_width" in cls.model_fields:  # it must divide twice another field, which few numbers do
        overrides = {"group_width": st.sampled_from([1, 2]), **overrides}
    return testing.components(cls, Worlds(), **overrides)


class Worlds:
    """Offers what the catalog does, each component drawn as above."""

    def offers(self, kind):
        return catalog().offers(kind)


def shapes():
    """(C, H, W) or (F,), small."""
    side = st.integers(1, 12)
    return st.tuples(st.sampled_from([1, 3, 4]), side, side) | st.tuples(st.integers(1, 64))
