"""How the frequencies of classes differ between generated and real images."""

from __future__ import annotations

import torch
from torch import Tensor

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs

_NAMED = 5
"""Classes that a warning names."""


class ClassDivergence(Metric):
    """Divergence of the generated classes from the real ones, KL(p || q), in nats.

    p and q are the shares of each class among generated and real images, both as classified by the extractor. It is
    infinite if a generated class has no real image, with a warning. The detail `rarest_share` is the smallest of p.
    `ideal` is the mean for two samples of one distribution: (K - 1) / N for K classes and N images of each kind.
    """

    name = "class-kl"
    needs = frozenset({"labels", "reference"})
    better = "lower"

    def measure(self, inputs: MetricInputs) -> Measurement:
        fake, real = inputs.fake, inputs.reference
        p, q = fake.shares(), real.shares()
        fewest = min(len(fake), len(real))
        if fewest < len(p):
            raise DataError(
                f"class-kl with {len(p)} classes needs at least {len(p)} generated and real samples; received "
                f"{len(fake)} and {len(real)}"
            )
        expected = (len(p) - 1) / 2 * (1 / len(fake) + 1 / len(real))
        warnings = []
        if fewest < 10 * len(p):
            warnings.append(f"{fewest} images are few for {len(p)} classes; use {10 * len(p)} or more")
        if missing := ((p > 0) & (q == 0)).nonzero().flatten().tolist():
            classes = ", ".join(map(str, missing[:_NAMED])) + (", …" if len(missing) > _NAMED else "")
            warnings.append(f"it is infinite: no real image is read as class {classes}; use more real images")
        return Measurement(divergence(p, q), {"rarest_share": float(p.min())}, {"value": expected}, tuple(warnings))


def divergence(p: Tensor, q: Tensor) -> float:
    """Return KL(p || q) of two histograms (K,), in nats; infinite if q is zero for a class where p is not."""
    return float(torch.special.xlogy(p, p).sum() - torch.special.xlogy(p, q).sum())
