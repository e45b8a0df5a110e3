"""Whether a generator has learned its training images by heart."""

from __future__ import annotations

import torch
from torch import Tensor

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.features import centered

_CHUNK = 1000
"""Images whose distances to all training images are held at once."""


class Memorization(Metric):
    """Sign that samples are nearer to the training data than unseen data is, Meehan et al. 2020 (arXiv:2004.05675).

    For a generated and a held-out real image at random: the chance that the generated one's distance to its nearest
    training image is the smaller (ties count half), which is the statistic of Mann and Whitney. It is 0.5 for unseen
    real images and 1 for copies; below 0.5 samples stay away from the data, which is no sign, so the number is then
    0.5. Details: `chance` as it is, and the median distances.
    """

    name = "memorization"
    needs = frozenset({"features", "reference", "training"})
    better = "lower"

    def measure(self, evidence: MetricInputs) -> Measurement:
        fake, held_out = evidence.features
        trained_on = None if evidence.training is None else evidence.training.features
        if trained_on is None:
            raise DataError("memorization takes the images of the training, and there are none")
        trained_on, fake, held_out = centered(trained_on, fake, held_out)
        generated, unseen = (_nearest(features, trained_on) for features in (fake, held_out))
        chance = _chance_of_less(generated, unseen)
        details = {
            "chance": chance,
            "median_generated": float(generated.median()),
            "median_held_out": float(unseen.median()),
        }
        return Measurement(max(chance, 0.5), details, {"value": 0.5, "chance": 0.5})


def _nearest(features: Tensor, others: Tensor) -> Tensor:
    """The distance (N,) of each row to the nearest of the others, from differences: a copy has distance zero."""
    found = []
    for chunk in torch.split(features, _CHUNK):
        nearest = torch.cdist(chunk, others).argmin(dim=1)
        found.append((chunk - others[nearest]).double().norm(dim=1))
    return torch.cat(found)


def _chance_of_less(first: Tensor, second: Tensor) -> float:
    """P(a < b) + P(a = b) / 2 for a of the first and b of the second at random."""
    ranked = second.sort().values
    less = len(ranked) - torch.searchsorted(ranked, first, right=True)
    equal = len(ranked) - torch.searchsorted(ranked, first) - less
    return float((less + equal / 2).double().mean() / len(ranked))
