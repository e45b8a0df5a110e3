"""Preprocessing of features that several metrics share."""

from __future__ import annotations

from torch import Tensor


def by_content(features: Tensor) -> Tensor:
    """Sort the rows of features (N, D) by their bytes, so that random subsets do not depend on the order of images."""
    rows = [row.tobytes() for row in features.contiguous().numpy()]
    return features[sorted(range(len(rows)), key=rows.__getitem__)]


def centered(*features: Tensor) -> tuple[Tensor, ...]:
    """Subtract the mean of the first from all: distances stay the same, and lose less precision if values are large."""
    mean = features[0].double().mean(dim=0)
    return tuple((part - mean).float() for part in features)
