"""How many modes of the data a generator has found."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gancore.contracts import Mixture
from gancore.errors import ConfigError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.classes import divergence

_ENOUGH = 10
"""Samples for each mode, on average, from which on theory tells what chance does."""
_CHUNK = 1000
"""Points whose distances to all centers are held at once."""
_NEAR = 3.0
"""Standard deviations around a center within which a sample counts as being of high quality."""


class Modes(Metric):
    """Modes captured, Srivastava et al. 2017 (arXiv:1705.07761): centers of a known mixture, or classes.

    A mode is captured when one sample is of high quality, within 3 standard deviations of its nearest center, there.
    Details: `high_quality`, the share of such samples; `reverse_kl`, the divergence KL(shares || uniform) of the modes
    among them, in nats; `rarest_share`, the smallest of the shares. With an extractor that tells classes apart, classes
    are the modes, and every sample counts.
    """

    name = "modes"
    needs = frozenset({"images"})
    better = "higher"

    def measure(self, evidence: MetricInputs) -> Measurement:
        if evidence.fake.logits is not None:
            return _measured(evidence.fake.shares(), len(evidence.fake), len(evidence.fake))
        if evidence.mixture is None:
            raise ConfigError(
                "modes counts the centers of a known mixture, as ring and grid have, or the classes that an extractor "
                "reads; here is neither",
                "name an extractor: modes-digits",
            )
        mixture = evidence.mixture
        nearest, deviations = _nearest_center(evidence.fake.images, mixture)
        good = nearest[deviations < _NEAR]
        shares = good.bincount(minlength=len(mixture.centers)).double() / max(len(good), 1)
        return _measured(shares, len(good), len(nearest), _within(_NEAR, mixture.centers.shape[1]))


def _measured(shares: Tensor, good: int, samples: int, best: float | None = None) -> Measurement:
    """From the shares (M,) of the modes among the good samples; `best` is the share that is good of real points.

    `ideal` is what so many samples of M equal modes have on average: N good ones hit M (1 - (1 - 1/M)^N) of them, and
    diverge by (M - 1) / 2N nats.
    """
    modes, expected = len(shares), samples * (1.0 if best is None else best)
    details = {"reverse_kl": divergence(shares, torch.full_like(shares, 1 / modes)) if good else math.nan}
    ideal = {"value": modes * (1 - (1 - 1 / modes) ** expected)}
    warnings = []
    if samples >= _ENOUGH * modes:
        ideal["reverse_kl"] = (modes - 1) / (2 * expected)
    else:
        warnings.append(f"{samples} samples are few for {modes} modes; take {_ENOUGH * modes} or more")
    if best is not None:
        details["high_quality"], ideal["high_quality"] = good / samples, best
    details["rarest_share"] = float(shares.min())
    return Measurement(float((shares > 0).sum()), details, ideal, tuple(warnings))


def _nearest_center(points: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """The nearest center (N,) of each point, and the distance to it (N,) in standard deviations."""
    nearest = torch.cat([torch.cdist(chunk, mixture.centers).argmin(dim=1) for chunk in torch.split(points, _CHUNK)])
    offsets = points.double() - mixture.centers[nearest].double()
    return nearest, offsets.norm(dim=1) / mixture.std


def _within(deviations: float, dimensions: int) -> float:
    """The share of a normal distribution inside a ball: 1 - exp(-4.5) = 98.89 % for 3 deviations in the plane."""
    half = torch.tensor([dimensions / 2, deviations**2 / 2], dtype=torch.float64)
    return float(torch.special.gammainc(half[0], half[1]))
