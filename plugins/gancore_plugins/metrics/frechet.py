"""The Fréchet distance between normal distributions fitted to features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gancore.errors import DataError
from gancore.metrics import FeatureStatistics, Measurement, Metric, MetricInputs

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FrechetDistance(Metric):
    """Fréchet distance of features, Heusel et al. 2017 (arXiv:1706.08500); FID when the extractor is inception.

    With means m and covariances C of both sets: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), in float64. It is biased:
    for two sets of N images from one distribution with covariance I in D dimensions its mean is D (D + 5) / 2N. So
    only distances with equal N and the same extractor can be compared. `ideal` is that mean for the real covariance.
    """

    name = "fd"
    needs = frozenset({"features", "reference"})
    better = "lower"
    reads_statistics = True

    def measure(self, inputs: MetricInputs) -> Measurement:
        fake = inputs.fake_features
        reals = inputs.statistics.count if inputs.statistics else len(inputs.reference)
        dimensions, fewest = fake.shape[1], min(len(fake), len(fake) if reals is None else reals)
        if fewest <= dimensions:
            received = len(fake) if reals is None else f"{len(fake)} and {reals}"
            raise DataError(
                f"fd with {dimensions} features needs more than {dimensions} generated and real samples; received "
                f"{received}",
                "use more samples, or kid, which needs fewer",
            )
        if dimensions < 2:
            raise DataError("fd needs at least 2 features; the extractor has 1", "use kid")
        real = inputs.real_statistics
        distance = frechet_distance(FeatureStatistics.of(fake), real)
        warnings = []
        if fewest < 2 * dimensions:
            warnings.append(
                f"{fewest} images are few for {dimensions} features: the value is mostly bias; use {2 * dimensions} "
                "or more"
            )
        ideal = {} if reals is None else {"value": expected_distance(real.covariance.numpy(), len(fake), reals)}
        return Measurement(distance, ideal=ideal, warnings=tuple(warnings))


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Return the squared Fréchet distance of normal distributions, by torch-fidelity."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    pair = [{"mu": each.mean.numpy(), "sigma": each.covariance.numpy()} for each in (first, second)]
    distance: float = fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID]
    return max(distance, 0.0)  # rounding may give less


def expected_distance(covariance: NDArray[np.float64], fakes: float, reals: float) -> float:
    """Return the mean distance of two sets of images from one normal distribution with this covariance (D, D).

    With its eigenvalues l: (1/N + 1/M) (sum l_i + sum l_i l_j (1 + [i = j]) / 2 (l_i + l_j)), to first order.
    """
    values = np.linalg.eigvalsh(covariance).clip(min=0)
    sums = values[:, None] + values[None, :]
    products = values[:, None] * values[None, :]
    pairs = np.divide(products, sums, out=np.zeros_like(products), where=sums > 0)
    return float((1 / fakes + 1 / reals) * (values.sum() + (pairs.sum() + np.trace(pairs)) / 2))
