"""Whether a generator copies its training images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.features import centered

_CHUNK = 1000
"""Images whose distances to all training images are in memory at once."""


class Memorization(Metric):
    """Whether samples are nearer to the training data than held-out data is, Meehan et al. 2020 (arXiv:2004.05675).

    For a random generated and a random held-out image: the probability that the generated one is nearer to its nearest
    training image (ties count half), the statistic of Mann and Whitney. It is about 0.5 for unseen real images and 1
    for copies. Below 0.5 samples are far from the data, which is not memorization, so the value is never less than 0.5.
    `ideal` is therefore slightly above it, 0.505 for 1000 generated and 1000 held-out images. Details: `chance`, the
    probability itself, and the median distances.
    """

    name = "memorization"
    needs = frozenset({"features", "reference", "training"})
    better = "lower"

    def measure(self, inputs: MetricInputs) -> Measurement:
        fake, held_out = inputs.features
        training = None if inputs.training is None else inputs.training.features
        if training is None:
            raise DataError("memorization needs the training images, which are unknown here")
        training, fake, held_out = centered(training, fake, held_out)
        to_fake, to_held_out = (_nearest_distance(features, training) for features in (fake, held_out))
        chance = _probability_of_less(to_fake, to_held_out)
        details = {
            "chance": chance,
            "median_generated": float(to_fake.median()),
            "median_held_out": float(to_held_out.median()),
        }
        n, m = len(fake), len(held_out)
        deviation = math.sqrt((n + m + 1) / (12 * n * m))  # of the chance for unseen images, by Mann and Whitney
        expected = 0.5 + deviation / math.sqrt(2 * math.pi)  # the mean of max(x, 0.5) for a normal x
        return Measurement(max(chance, 0.5), details, {"value": expected, "chance": 0.5})


def _nearest_distance(features: Tensor, others: Tensor) -> Tensor:
    """Return the distance (N,) of each row of features (N, D) to the nearest of the others (M, D)."""
    distances = []
    for chunk in torch.split(features, _CHUNK):
        nearest = torch.cdist(chunk, others).argmin(dim=1)
        distances.append((chunk - others[nearest]).double().norm(dim=1))  # exactly 0 for a copy, unlike cdist
    return torch.cat(distances)


def _probability_of_less(first: Tensor, second: Tensor) -> float:
    """Return P(a < b) + P(a = b) / 2 for random elements a of `first` (N,) and b of `second` (M,)."""
    ascending = second.sort().values
    less = len(ascending) - torch.searchsorted(ascending, first, right=True)
    equal = len(ascending) - torch.searchsorted(ascending, first) - less
    return float((less + equal / 2).double().mean() / len(ascending))
