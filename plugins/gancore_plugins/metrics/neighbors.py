"""Precision, recall, density and coverage: how generated and real images overlap in feature space.

The ball of an image reaches to its k-th nearest neighbor of the same kind, generated or real.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.features import centered

_CHUNK = 2000
"""Images whose distances to all others are in memory at once."""


class NeighborMetric(Metric):
    """What these metrics share."""

    needs = frozenset({"features", "reference"})
    better = "higher"
    k: int = Field(default=5, ge=1, le=1000, description="the ball of an image reaches to its k-th nearest neighbor")

    def both_features(self, inputs: MetricInputs) -> tuple[Tensor, Tensor]:
        """Return features of generated (N, D) and real (M, D) images. Raise DataError for too few."""
        fake, real = centered(*inputs.features)
        if min(len(fake), len(real)) <= self.k:
            raise DataError(
                f"{self.name} with k = {self.k} needs more than {self.k} generated and real samples; received "
                f"{len(fake)} and {len(real)}",
                "use more samples, or a lower k",
            )
        return fake, real

    def _precision_and_recall(self, inputs: MetricInputs) -> dict[str, float]:
        """Return both, computed once for all metrics with the same k."""
        from torch_fidelity.metric_prc import prc_features_to_metric

        fake, real = self.both_features(inputs)

        def compute() -> dict[str, float]:
            values: dict[str, float] = prc_features_to_metric(
                fake, real, prc_neighborhood=self.k, prc_batch_size=_CHUNK, save_cpu_ram=True, verbose=False
            )
            return values

        return inputs.once(("precision and recall", self.k), compute)

    def _balls(self, inputs: MetricInputs) -> tuple[Tensor, Tensor]:
        """Return the two results of `count_balls`, computed once for all metrics with the same k."""
        fake, real = self.both_features(inputs)
        return inputs.once(("density and coverage", self.k), lambda: count_balls(fake, real, self.k))


class Precision(NeighborMetric):
    """Share of generated images among the real ones, Kynkäänniemi et al. 2019 (arXiv:1904.06991)."""

    name = "precision"

    def measure(self, inputs: MetricInputs) -> Measurement:
        return Measurement(self._precision_and_recall(inputs)["precision"])


class Recall(NeighborMetric):
    """Share of real images among the generated ones, Kynkäänniemi et al. 2019 (arXiv:1904.06991)."""

    name = "recall"

    def measure(self, inputs: MetricInputs) -> Measurement:
        return Measurement(self._precision_and_recall(inputs)["recall"])


class Density(NeighborMetric):
    """Mean number of real balls that contain a generated image, over k, Naeem et al. 2020, eq. 4 (arXiv:2002.09797).

    Like precision, but robust to outliers among the real images. Equal distributions give 1 on average; the value can
    be larger than 1.
    """

    name = "density"

    def measure(self, inputs: MetricInputs) -> Measurement:
        counts, _ = self._balls(inputs)
        return Measurement(float(counts.double().mean()) / self.k, ideal={"value": 1.0})


class Coverage(NeighborMetric):
    """Share of real images with a generated one in their ball, Naeem et al. 2020, eq. 5 (arXiv:2002.09797).

    Like recall, but robust to outliers among the generated images. For equal distributions and equal numbers of images
    the mean is about 1 - 2^-k: a ball contains no generated image if the k images nearest to its center are all real.
    """

    name = "coverage"

    def measure(self, inputs: MetricInputs) -> Measurement:
        _, covered = self._balls(inputs)
        others, fakes = len(covered) - 1, len(inputs.fake)
        missed = math.prod((others - nearer) / (others + fakes - nearer) for nearer in range(self.k))
        return Measurement(float(covered.double().mean()), ideal={"value": 1 - missed})


def count_balls(fake: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the number of real balls that contain each generated image (N,), and whether each real ball has any (M,).

    `fake` (N, D) and `real` (M, D) are features.
    """
    of_fake, of_balls = count_inside(fake, real, ball_radii(real, k))
    return of_fake, of_balls > 0


def ball_radii(real: Tensor, k: int) -> Tensor:
    """Return the distance (M,) of each row of features (M, D) to its k-th nearest neighbor among the others."""
    # k + 1, since the nearest image is the image itself
    return torch.cat([torch.cdist(chunk, real).kthvalue(k + 1).values for chunk in torch.split(real, _CHUNK)])


def count_inside(points: Tensor, centers: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of balls that contain each point (N,), and the number of points in each ball (M,)."""
    of_points, of_balls = torch.zeros(len(points), dtype=torch.int64), []
    # Distances from the centers, as in `ball_radii`: rounding then leaves the k-th neighbor itself in the ball.
    for chunk, reach in zip(torch.split(centers, _CHUNK), torch.split(radii, _CHUNK), strict=True):
        inside = torch.cdist(chunk, points) <= reach.unsqueeze(1)  # (chunk, N)
        of_points += inside.sum(dim=0)
        of_balls.append(inside.sum(dim=1))
    return of_points, torch.cat(of_balls)
