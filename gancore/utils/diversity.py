"""The effective number of different things, as the Vendi score counts them."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(kernel: Tensor) -> float:
    """Return exp(-tr K log K) of a nonnegative definite matrix (N, N), divided by its trace.

    It is 1 if one eigenvalue is not zero, and N if all are equal: Friedman and Dieng 2023 (arXiv:2210.02410).
    """
    values = torch.linalg.eigvalsh(kernel / kernel.trace()).clamp(min=0)
    return float(torch.exp(-torch.special.xlogy(values, values).sum()))
