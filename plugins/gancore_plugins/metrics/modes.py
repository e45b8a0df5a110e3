"""How many modes of the data a generator has found."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gancore.contracts import Mixture
from gancore.errors import ConfigError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.classes import divergence

_MIN_SAMPLES_PER_MODE = 10
"""Samples per mode, on average, from which the expected divergence of `ideal` is accurate."""
_CHUNK = 1000
"""Points whose distances to all centers are in memory at once."""
_HIGH_QUALITY = 3.0
"""A sample is of high quality if it is within this many standard deviations of its nearest center."""


class Modes(Metric):
    """Modes captured, Srivastava et al. 2017 (arXiv:1705.07761): centers of a known mixture, or classes.

    A sample is of high quality within 3 standard deviations of its nearest center, and captures that mode. Details:
    `high_quality`, the share of such samples; `reverse_kl`, the divergence KL(shares || uniform) of the modes among
    them, in nats; `rarest_share`, the smallest of the shares. With an extractor that classifies, the classes are the
    modes, and every sample counts.
    """

    name = "modes"
    needs = frozenset({"images"})
    better = "higher"

    def measure(self, inputs: MetricInputs) -> Measurement:
        if inputs.fake.logits is not None:
            return _measured(inputs.fake.shares(), len(inputs.fake), len(inputs.fake))
        if inputs.mixture is None:
            raise ConfigError(
                "modes counts the centers of a known mixture (ring, grid), or the classes of an extractor that "
                "classifies; there is neither",
                "use an extractor that classifies: modes-classifier",
            )
        mixture = inputs.mixture
        nearest, deviations = _nearest_center(inputs.fake.images, mixture)
        good = nearest[deviations < _HIGH_QUALITY]
        shares = good.bincount(minlength=len(mixture.centers)).double() / max(len(good), 1)
        real_quality = _probability_in_ball(_HIGH_QUALITY, mixture.centers.shape[1])
        return _measured(shares, len(good), len(nearest), real_quality)


def _measured(shares: Tensor, good: int, samples: int, real_quality: float | None = None) -> Measurement:
    """Return the measurement for the shares (M,) of the modes among the `good` samples.

    `real_quality` is the share of real points that are of high quality; None if every sample counts. `ideal` is the
    mean for `samples` real points of M equal modes: N good ones hit M (1 - (1 - 1/M)^N) modes, and diverge by
    (M - 1) / 2N nats.
    """
    modes, expected = len(shares), samples * (1.0 if real_quality is None else real_quality)
    details = {"reverse_kl": divergence(shares, torch.full_like(shares, 1 / modes)) if good else math.nan}
    ideal = {"value": modes * (1 - (1 - 1 / modes) ** expected)}
    warnings = []
    if samples >= _MIN_SAMPLES_PER_MODE * modes:
        ideal["reverse_kl"] = (modes - 1) / (2 * expected)
    else:
        warnings.append(f"{samples} samples are few for {modes} modes; use {_MIN_SAMPLES_PER_MODE * modes} or more")
    if real_quality is not None:
        details["high_quality"], ideal["high_quality"] = good / samples, real_quality
    details["rarest_share"] = float(shares.min())
    return Measurement(float((shares > 0).sum()), details, ideal, tuple(warnings))


def _nearest_center(points: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Return the number of each point's nearest center (N,), and its distance (N,) in standard deviations."""
    nearest = torch.cat([torch.cdist(chunk, mixture.centers).argmin(dim=1) for chunk in torch.split(points, _CHUNK)])
    offsets = points.double() - mixture.centers[nearest].double()
    return nearest, offsets.norm(dim=1) / mixture.std


def _probability_in_ball(deviations: float, dimensions: int) -> float:
    """Return the share of a normal distribution in a ball: 1 - exp(-4.5) = 98.89 % for 3 deviations in the plane."""
    half = torch.tensor([dimensions / 2, deviations**2 / 2], dtype=torch.float64)
    return float(torch.special.gammainc(half[0], half[1]))
