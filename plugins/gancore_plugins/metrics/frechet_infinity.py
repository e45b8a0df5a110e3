"""The Fréchet distance without the bias of few samples."""

from __future__ import annotations

import math

import numpy as np
import torch

from gancore.errors import DataError
from gancore.metrics import FeatureStatistics, Measurement, Metric, MetricInputs
from gancore_plugins.metrics.features import by_content
from gancore_plugins.metrics.frechet import expected_distance, frechet_distance

_SIZES = 15
_SMALLEST_SHARE = 0.1


class FrechetDistanceAtInfinity(Metric):
    """Fréchet distance for infinitely many generated images, Chong and Forsyth 2020 (arXiv:1911.07023).

    The distance of N generated images is about a + b / N. A line is fitted to 15 random subsets, from a tenth of the
    images to all; a is the value. Details: `all`, the distance of all images, as `fd` gives it. The number of real
    images is not extrapolated: their share of the bias stays, which is `ideal`. The value can be slightly below 0.
    """

    name = "fd-infinity"
    needs = frozenset({"features", "reference"})
    better = "lower"
    reads_statistics = True

    def measure(self, inputs: MetricInputs) -> Measurement:
        fake = by_content(inputs.fake_features)
        reals = inputs.statistics.count if inputs.statistics else len(inputs.reference)
        count, dimensions = fake.shape
        if dimensions < 2:
            raise DataError("fd-infinity needs at least 2 features; the extractor has 1", "use kid")
        fewest = 4 * dimensions
        if count < fewest or (reals is not None and reals <= dimensions):
            of_real = "" if reals is None else f" and {reals} real"
            raise DataError(
                f"fd-infinity with {dimensions} features needs at least {fewest} generated and more than {dimensions} "
                f"real samples; received {count} generated{of_real}",
                "use more samples, or kid, which needs fewer and has no such bias",
            )
        real = inputs.real_statistics
        smallest = max(round(_SMALLEST_SHARE * count), 2 * dimensions)
        sizes = np.linspace(smallest, count, _SIZES).round().astype(int)
        random = torch.Generator().manual_seed(0)
        subsets = (fake[torch.randperm(count, generator=random)[:size]] for size in sizes)
        distances = [frechet_distance(FeatureStatistics.of(subset), real) for subset in subsets]
        ideal = {}
        if reals is not None:
            covariance = real.covariance.numpy()
            ideal = {
                "value": expected_distance(covariance, math.inf, reals),
                "all": expected_distance(covariance, count, reals),
            }
        return Measurement(at_infinity(sizes, np.array(distances)), {"all": distances[-1]}, ideal)


def at_infinity(sizes: np.ndarray, values: np.ndarray) -> float:
    """Return a of the line a + b / N that fits values (S,) at the sizes N (S,) best."""
    _, intercept = np.polyfit(1 / sizes, values, 1)
    return float(intercept)
