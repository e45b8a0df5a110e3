"""Hypothesis strategies: those of gancore.testing with the tiny components, and shapes."""

from hypothesis import strategies as st

from gancore import testing
from gancore.component import Component, is_abstract
from gancore.metrics import Extractor, Metric
from helpers.tiny_components import catalog


def components(cls, **overrides):
    """Draw valid instances of a component or other settings; for an abstract kind, of any component of the catalog."""
    if issubclass(cls, Component) and is_abstract(cls):
        return st.one_of([components(offered) for offered, _ in catalog().offers(cls)])
    if issubclass(cls, Metric) and cls.needs & {"features", "labels"}:
        overrides = {"extractor": components(Extractor), **overrides}
    if "group_width" in cls.model_fields:  # it must divide twice another field, which few numbers do
        overrides = {"group_width": st.sampled_from([1, 2]), **overrides}
    return testing.components(cls, TinyCatalog(), **overrides)


class TinyCatalog:
    """Catalog whose nested components are drawn as above."""

    def offers(self, kind):
        return catalog().offers(kind)


def shapes():
    """Draw small shapes, (C, H, W) or (F,)."""
    side = st.integers(1, 12)
    return st.tuples(st.sampled_from([1, 3, 4]), side, side) | st.tuples(st.integers(1, 64))
