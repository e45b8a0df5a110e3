"""How evenly the classes are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs


class ClassDivergence(Metric):
    """Divergence of the generated classes from the real ones, KL(p || q), in nats.

    p and q are the shares of each class among generated and real images, both as the extractor reads them. Its detail
    `rarest_share` is the smallest of p. Of K classes and N images of each kind, (K - 1) / N nats are chance, which is
    `ideal`.
    """

    name = "class-kl"
    needs = frozenset({"labels", "reference"})
    better = "lower"

    def measure(self, evidence: MetricInputs) -> Measurement:
        fake, real = evidence.fake, evidence.reference
        p, q = fake.shares(), real.shares()
        if min(len(fake), len(real)) < len(p):
            raise DataError(f"{len(p)} classes take as many images of each kind; received {len(fake)} and {len(real)}")
        chance = (len(p) - 1) / 2 * (1 / len(fake) + 1 / len(real))
        few = f"{len(fake)} images are few for {len(p)} classes; take {10 * len(p)} or more"
        warnings = (few,) if len(fake) < 10 * len(p) else ()
        return Measurement(divergence(p, q), {"rarest_share": float(p.min())}, {"value": chance}, warnings)


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(p || q) of two histograms (K,), in nats; infinite where q is zero and p is not."""
    return float(torch.special.xlogy(p, p).sum() - torch.special.xlogy(p, q).sum())
