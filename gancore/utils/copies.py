"""Copies of the parts of a run."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

from torch import Tensor, nn

T = TypeVar("T")


def copy_part(part: T, memo: dict[int, object] | None = None) -> T:
    """Return a deep copy; `memo` is that of `deepcopy`.

    Weights that a forward pass computed and left in a module, as `torch.nn.utils.spectral_norm` and `weight_norm` do,
    are copied without their graph: `deepcopy` raises for them, and the next pass replaces them.
    """
    memo = {} if memo is None else memo
    for module in part.modules() if isinstance(part, nn.Module) else ():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return deepcopy(part, memo)
