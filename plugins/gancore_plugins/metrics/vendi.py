"""How many different images there are."""

from __future__ import annotations

from torch.nn.functional import normalize

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore.utils.diversity import effective_rank


class VendiScore(Metric):
    """Effective number of different images, Friedman and Dieng 2023 (arXiv:2210.02410), with the cosine of features.

    exp(-tr K log K), where K holds the cosines of all pairs of N images over N. It is 1 if all have the same features
    up to a factor, and at most N and the number of features D. It uses no real images, so noise scores well too:
    compare it with the score of real data.
    """

    name = "vendi"
    needs = frozenset({"features"})
    better = "higher"

    def measure(self, inputs: MetricInputs) -> Measurement:
        directions = normalize(inputs.fake_features.double())
        if not directions.any():
            raise DataError("vendi compares directions of features, and all features are zero")
        # The matrix of features (D, D) has the same eigenvalues, apart from zeros, and is smaller.
        wide = directions.shape[1] > len(directions)
        return Measurement(effective_rank(directions @ directions.T if wide else directions.T @ directions))
