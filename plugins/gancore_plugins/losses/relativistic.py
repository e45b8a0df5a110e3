"""Relativistic losses, Jolicoeur-Martineau 2018 (arXiv:1807.00734): how much more real is one image than another.

With s(t) = softplus(t) = log(1 + e^t), so that s(-t) is the cross-entropy of a logit t with target 1.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from gancore.contracts import Loss, Scores
from gancore.errors import PluginError


class Relativistic(Loss):
    """Relativistic in pairs, Jolicoeur-Martineau 2018, section 4.1 (arXiv:1807.00734): RSGAN, also used by R3GAN.

    D minimizes E s(-(D(x) - D(G(z)))), G minimizes E s(-(D(G(z)) - D(x))), over pairs of a real image and a fake one.
    """

    name = "relativistic"
    needs_real = True

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return softplus(fake.logits - real.logits).mean()

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return softplus(_required(real).logits - fake.logits).mean()


class RelativisticAverage(Loss):
    """Relativistic against the average, Jolicoeur-Martineau 2018, section 4.2 (arXiv:1807.00734): RaSGAN.

    With r = D(x) - E D(G(z)) and f = D(G(z)) - E D(x), the means over the batch, D minimizes (E s(-r) + E s(f)) / 2 and
    G minimizes (E s(r) + E s(-f)) / 2.
    """

    name = "relativistic-average"
    needs_real = True

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return _against_average(more=real, less=fake)

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return _against_average(more=fake, less=_required(real))


def _against_average(more: Scores, less: Scores) -> Tensor:
    """Return the loss that makes `more` score above the mean of `less`, and `less` below the mean of `more`."""
    above = more.logits - less.mean(less.logits)
    below = less.logits - more.mean(more.logits)
    return (softplus(-above).mean() + softplus(below).mean()) / 2


def _required(real: Scores | None) -> Scores:
    if real is None:
        raise PluginError("a relativistic loss needs the scores of real images in the generator's step too")
    return real
