"""The sliced Wasserstein distance of features."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.features import centered

_FACTOR = 3.0
_AT_ONCE = 64
"""Directions whose projections are in memory at once."""


class MongeDistance(Metric):
    """Sliced Wasserstein distance of features, Berthet et al. 2026 (arXiv:2605.06797); MIND when it is of inception.

    3 D times the mean, over random directions w in D dimensions, of the squared 2-Wasserstein distance between the
    projections w x and w y, which is exact in one dimension: the mean squared difference of quantiles. It estimates no
    covariance, so it also works with fewer images than features, and sees more than two moments. For a shift by v it is
    3 |v|^2 on average over directions. The directions are always the same. Two samples of one distribution have a value
    above 0 too, which falls with the number of images.
    """

    name = "mind"
    needs = frozenset({"features", "reference"})
    better = "lower"
    directions: int = Field(default=1000, ge=1, le=100_000, description="random directions to average over")

    def measure(self, inputs: MetricInputs) -> Measurement:
        fake, real = centered(*inputs.features)
        if min(len(fake), len(real)) < 2:
            raise DataError(f"mind needs at least 2 generated and real samples; received {len(fake)} and {len(real)}")
        dimensions = fake.shape[1]
        random = torch.Generator().manual_seed(0)
        directions = torch.randn(dimensions, self.directions, generator=random, dtype=torch.float64)
        directions /= directions.norm(dim=0)
        distances = [
            _distances(fake.double() @ part, real.double() @ part) for part in torch.split(directions, _AT_ONCE, 1)
        ]
        return Measurement(_FACTOR * dimensions * float(torch.cat(distances).mean()))


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared 2-Wasserstein distance (W,) of each column of two sets of numbers (N, W) and (M, W)."""
    first, second = first.sort(dim=0).values, second.sort(dim=0).values
    n, m = len(first), len(second)
    if n == m:
        return (first - second).square().mean(dim=0)
    # Both quantile functions are constant between two of these levels, in units of 1 / NM. A level may occur twice.
    levels = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).sort().values
    widths = levels.diff(prepend=levels.new_zeros(1)).double() / (n * m)
    return torch.mv((first[(levels - 1) // m] - second[(levels - 1) // n]).square().T, widths)
