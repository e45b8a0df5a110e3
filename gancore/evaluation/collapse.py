"""The collapse guard: does the generator still draw different things?

Diversity is the effective number of different samples, as a share of that of real data: the Vendi score of Friedman and
Dieng 2023 (arXiv:2210.02410) with a Gaussian kernel on pixels or coordinates, half as wide as two real images are
apart. It needs no extractor and no labels, and takes milliseconds. What it cannot see is the loss of one mode of many.
"""

from __future__ import annotations

import torch
from torch import Tensor

COUNT = 256
"""Samples, and real images, that are looked at."""
_WIDTH = 0.5
_LEAST = 0.2
_PATIENCE = 2
_FAR = 1e12  # farther points are as different, and their squared distances would overflow


def effective_number(points: Tensor, width: float) -> float:
    """How many different points (N, F) there are in effect: 1 where all are one, N where all are far apart.

    `width` is the distance at which two points begin to differ. It is exp(-tr K log K), with the kernel matrix K of
    trace 1.
    """
    kernel = torch.exp(-torch.cdist(points, points).square() / (2 * width**2)) / len(points)
    values = torch.linalg.eigvalsh(kernel).clamp(min=0)
    return float(torch.exp(-torch.special.xlogy(values, values).sum()))


class CollapseGuard:
    """Compares samples with `real` images (N, …), both as they are stored, and raises an alarm after two low values.

    `low` counts how many there were in a row.
    """

    def __init__(self, real: Tensor, low: int = 0) -> None:
        self._middle = real.flatten(1).float().mean(dim=0)  # distances drown in the rounding of large numbers
        self._real = self._points(real)
        apart = torch.pdist(self._real)
        apart = apart[apart > 0]
        self._width = _WIDTH * float(apart.median()) if len(apart) else 0.0
        self._number = effective_number(self._real, self._width) if self._width else 0.0
        self.low = low

    def diversity(self, samples: Tensor) -> float | None:
        """The effective number of samples (N, …) as a share of the real one; None where real data has no diversity.

        It is 0 for samples that are not finite.
        """
        if not self._number:
            return None
        if samples.is_floating_point() and not samples.isfinite().all():
            return 0.0
        return effective_number(self._points(samples[: len(self._real)]), self._width) / self._number

    def alarm(self, diversity: float | None) -> str | None:
        """What there is to warn of after this value: said once, when it has been low twice in a row."""
        self.low = self.low + 1 if diversity is not None and diversity < _LEAST else 0
        if diversity is None or self.low != _PATIENCE:
            return None
        return (
            f"collapse suspected: {len(self._real)} samples are in effect {diversity * self._number:.1f} different "
            f"ones, where as many real images are {self._number:.1f}; below {_LEAST:.0%} of that in {_PATIENCE} "
            "evaluations in a row"
        )

    def _points(self, images: Tensor) -> Tensor:
        return (images.flatten(1).float() - self._middle).clamp(-_FAR, _FAR)
