"""Collapse guard: checks that the generator's samples are still diverse.

Diversity is the effective number of distinct samples, relative to that of real data: the Vendi score of Friedman and
Dieng 2023 (arXiv:2210.02410) with a Gaussian kernel on pixels or coordinates, whose width is half the median distance
between two real images. It needs no extractor and no labels, and takes milliseconds. It cannot detect the loss of one
mode among many.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gancore.utils.diversity import effective_rank

SAMPLE_COUNT = 256
"""Number of samples, and of real images, that are compared."""
_KERNEL_WIDTH = 0.5  # in median distances between real images
MIN_DIVERSITY = 0.2
LOW_VALUES_TO_ALARM = 2
_MAX_COORDINATE = 1e12  # points are clamped to this, since their squared distances would overflow


def effective_number(points: Tensor, width: float) -> float:
    """Return the effective number of distinct points (N, F): 1 if all are equal, N if all are far apart.

    `width` is the distance at which two points begin to differ. The result is exp(-tr K log K), where K is the kernel
    matrix scaled to trace 1.
    """
    return effective_rank(torch.exp(-torch.cdist(points, points).square() / (2 * width**2)))


class CollapseGuard:
    """Compares samples with `real` images (N, …), as metrics compare them, and warns after two low values in a row.

    `low` is the number of low values in a row so far.
    """

    def __init__(self, real: Tensor) -> None:
        self._mean = real.flatten(1).float().mean(dim=0)  # centered, since large numbers would round distances away
        self._real = self._points(real)
        distances = torch.pdist(self._real)
        distances = distances[distances > 0]
        self._width = _KERNEL_WIDTH * float(distances.median()) if len(distances) else 0.0
        self._real_number = effective_number(self._real, self._width) if self._width else 0.0
        self.low = 0

    def diversity(self, samples: Tensor) -> float | None:
        """Return the effective number of samples (N, …) relative to real data; None if real data has no diversity.

        It is 0 for samples that are not finite.
        """
        if not self._real_number:
            return None
        if samples.is_floating_point() and not samples.isfinite().all():
            return 0.0
        return effective_number(self._points(samples[: len(self._real)]), self._width) / self._real_number

    def alarm(self, diversity: float | None) -> str | None:
        """Return a warning if this is the second low value in a row, else None; later low values do not repeat it."""
        self.low = self.low + 1 if diversity is not None and diversity < MIN_DIVERSITY else 0
        if diversity is None or self.low != LOW_VALUES_TO_ALARM:
            return None
        return (
            f"collapse suspected: {len(self._real)} samples have an effective number of "
            f"{diversity * self._real_number:.1f} distinct ones, as many real ones have {self._real_number:.1f}; "
            f"below {MIN_DIVERSITY:.0%} of real data in {LOW_VALUES_TO_ALARM} evaluations in a row"
        )

    def _points(self, images: Tensor) -> Tensor:
        return (images.flatten(1).float() - self._mean).clamp(-_MAX_COORDINATE, _MAX_COORDINATE)
