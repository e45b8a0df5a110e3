"""Conditions of small batches."""

import torch
from hypothesis import strategies as st

classes = st.none() | st.integers(2, 5)
"""Number of classes, or None of an unconditional run."""
vectors = st.tuples(st.integers(1, 4))
"""Shapes of vectors as conditions."""
tensors = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
"""Shapes of tensors as conditions, vectors and pictures among them."""


def conditions_for(count, condition):
    """Return the arguments after the batch in a call of a network: conditions (count, …), or nothing."""
    if condition is None:
        return ()
    if isinstance(condition, int):
        return (torch.arange(count) % condition,)
    return (torch.randn(count, *condition),)
