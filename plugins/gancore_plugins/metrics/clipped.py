"""Density and coverage that say which share of the images is good."""

from __future__ import annotations

import math

import numpy as np
import torch

from gancore.metrics import Measurement, MetricInputs
from gancore_plugins.metrics.neighbors import NeighborMetric, ball_radii, count_inside


class ClippedDensity(NeighborMetric):
    """Share of generated images as good as real ones, Salvy et al. 2025 (arXiv:2507.01761).

    The balls of real images reach to their k-th neighbor, but no further than the median of these distances, so that
    outliers have no large balls. An image counts min(1, balls that contain it / k), so that none counts for several.
    The mean is divided by that of real images in the balls of the others, and is at most 1. If a share of the images is
    far from the data, the value falls by that share.
    """

    name = "clipped-density"

    def measure(self, inputs: MetricInputs) -> Measurement:
        fake, real = self.both_features(inputs)
        radii = ball_radii(real, self.k)
        radii = radii.clamp(max=radii.double().quantile(0.5).float())
        of_fake = (count_inside(fake, real, radii)[0] / self.k).clamp(max=1).double().mean()
        of_real = ((count_inside(real, real, radii)[0] - 1) / self.k).clamp(max=1).double().mean()  # without its own
        return Measurement(min(float(of_fake / of_real), 1.0) if of_real else 0.0, ideal={"value": 1.0})


class ClippedCoverage(NeighborMetric):
    """Share of good generated images that would cover the data as well, Salvy et al. 2025 (arXiv:2507.01761).

    A real image counts min(1, generated images in its ball / k). The mean grows with the number of good images by a
    known curve: for m images of the real distribution, their number in a ball has a beta-binomial distribution with the
    parameters k and M - k, where M is the number of real images. The value is the m that gives the mean, over the
    number of generated images, and at most 1. Half of the data missing, or half of the images far from it, give less.
    """

    name = "clipped-coverage"

    def measure(self, inputs: MetricInputs) -> Measurement:
        fake, real = self.both_features(inputs)
        _, counts = count_inside(fake, real, ball_radii(real, self.k))
        covered = float((counts / self.k).clamp(max=1).double().mean())
        expected = expected_coverage(len(fake), len(real), self.k)
        good = float(np.interp(covered, expected, np.arange(len(expected))))
        return Measurement(good / len(fake), ideal={"value": 1.0})


def expected_coverage(fakes: int, reals: int, k: int) -> np.ndarray:
    """Return the mean of min(1, c / k) for each number 0..fakes of images of the real distribution, increasing.

    c is their number in the ball of a real image, which reaches to the k-th of the `reals` - 1 others.
    """
    m = torch.arange(fakes + 1, dtype=torch.float64)
    a, b = torch.tensor(float(k), dtype=torch.float64), torch.tensor(float(reals - k), dtype=torch.float64)
    # P(c = j) = C(m, j) B(j + a, m - j + b) / B(a, b); the mean of min(c, k) is k - sum over j < k of (k - j) P(c = j)
    missing = torch.zeros_like(m)
    for j in range(k):
        logs = (m + 1).lgamma() - (m - j + 1).clamp(min=1).lgamma() - math.lgamma(j + 1)
        logs += _log_beta(j + a, (m - j).clamp(min=0) + b) - _log_beta(a, b)
        missing += (k - j) * logs.exp() * (m >= j)
    return np.maximum.accumulate((1 - missing / k).clamp(min=0).numpy())


def _log_beta(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()
