"""What several metrics do to features first."""

from __future__ import annotations

from torch import Tensor


def by_content(features: Tensor) -> Tensor:
    """The rows (N, D) in the order of their bytes, so that whatever is drawn from them forgets how they came."""
    rows = [row.tobytes() for row in features.contiguous().numpy()]
    return features[sorted(range(len(rows)), key=rows.__getitem__)]


def centered(*features: Tensor) -> tuple[Tensor, ...]:
    """All less the mean of the first: distances stay, and are not lost in the rounding of large numbers."""
    mean = features[0].double().mean(dim=0)
    return tuple((part - mean).float() for part in features)
