"""Precision, recall, density and coverage: whose features lie among whose.

A ball around an image reaches to the k-th nearest of its own kind.
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
"""Images whose distances to all others are held at once."""


class _Neighbors(Metric):
    """What all four share."""

    needs = frozenset({"features", "reference"})
    better = "higher"
    k: int = Field(default=5, ge=1, le=1000, description="a ball reaches to the k-th nearest neighbor")

    def _pair(self, evidence: MetricInputs) -> tuple[Tensor, Tensor]:
        fake, real = centered(*evidence.features)
        if min(len(fake), len(real)) <= self.k:
            received = f"received {len(fake)} and {len(real)}"
            raise DataError(f"the {self.k}-th neighbor takes more than {self.k} images of each kind; {received}")
        return fake, real

    def _prc(self, evidence: MetricInputs) -> dict[str, float]:
        """Precision and recall, computed once for both."""
        from torch_fidelity.metric_prc import prc_features_to_metric

        fake, real = self._pair(evidence)

        def compute() -> dict[str, float]:
            found: dict[str, float] = prc_features_to_metric(
                fake, real, prc_neighborhood=self.k, prc_batch_size=_CHUNK, save_cpu_ram=True, verbose=False
            )
            return found

        return evidence.once(("precision and recall", self.k), compute)

    def _inside(self, evidence: MetricInputs) -> tuple[Tensor, Tensor]:
        """For every generated image the number of real balls it lies in (N,); for every real one whether its is met."""
        fake, real = self._pair(evidence)
        return evidence.once(("density and coverage", self.k), lambda: _balls(fake, real, self.k))


class Precision(_Neighbors):
    """Share of generated images among the real ones, Kynkäänniemi et al. 2019 (arXiv:1904.06991)."""

    name = "precision"

    def measure(self, evidence: MetricInputs) -> Measurement:
        return Measurement(self._prc(evidence)["precision"])


class Recall(_Neighbors):
    """Share of real images among the generated ones, Kynkäänniemi et al. 2019 (arXiv:1904.06991)."""

    name = "recall"

    def measure(self, evidence: MetricInputs) -> Measurement:
        return Measurement(self._prc(evidence)["recall"])


class Density(_Neighbors):
    """How many real balls a generated image lies in, over k, Naeem et al. 2020, eq. 4 (arXiv:2002.09797).

    Precision that no outlier among the real images can inflate; 1 is expected of equal distributions, and more is
    possible.
    """

    name = "density"

    def measure(self, evidence: MetricInputs) -> Measurement:
        counts, _ = self._inside(evidence)
        return Measurement(float(counts.double().mean()) / self.k, ideal={"value": 1.0})


class Coverage(_Neighbors):
    """Share of real images with a generated one in their ball, Naeem et al. 2020, eq. 5 (arXiv:2002.09797).

    Recall that no outlier among the generated images can inflate. Of equal distributions and equally many images, about
    1 - 2^-k is expected: a ball misses all generated images if the k nearest of all to its center are real.
    """

    name = "coverage"

    def measure(self, evidence: MetricInputs) -> Measurement:
        _, met = self._inside(evidence)
        others, fakes = len(met) - 1, len(evidence.fake)
        missed = math.prod((others - nearer) / (others + fakes - nearer) for nearer in range(self.k))
        return Measurement(float(met.double().mean()), ideal={"value": 1 - missed})


def _balls(fake: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Counts (N,) of real balls around each generated image, and whether each real ball (M,) holds one of them."""
    radii = torch.cat(
        [torch.cdist(chunk, real).kthvalue(k + 1).values for chunk in torch.split(real, _CHUNK)]
    )  # 1st: itself
    counts, met = [], torch.zeros(len(real), dtype=torch.bool)
    for chunk in torch.split(fake, _CHUNK):
        inside = torch.cdist(chunk, real) <= radii
        counts.append(inside.sum(dim=1))
        met |= inside.any(dim=0)
    return torch.cat(counts), met
