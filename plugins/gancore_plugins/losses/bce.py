"""Binary cross-entropy on logits, in both of the forms of Goodfellow et al. 2014 (arXiv:1406.2661).

With s(t) = softplus(t) = log(1 + e^t), cross-entropy with target 1 is s(-logit), and with target 0 it is s(logit).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gancore.contracts import Loss, Scores


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


class _CrossEntropy(Loss):
    """The discriminator loss of both forms: D minimizes E s(-D(x)) + E s(D(G(z)))."""

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return _cross_entropy(real.logits, 1.0) + _cross_entropy(fake.logits, 0.0)


class NonSaturating(_CrossEntropy):
    """BCE with the non-saturating generator loss, Goodfellow et al. 2014, section 3 (arXiv:1406.2661).

    G minimizes E s(-D(G(z))) = -E log sigmoid(D(G(z))): the same fixed point as the minimax game, and strong gradients
    while D still rejects the fakes.
    """

    name = "bce"

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return _cross_entropy(fake.logits, 1.0)


class Minimax(_CrossEntropy):
    """BCE as the zero-sum game, saturating, Goodfellow et al. 2014, eq. 1 (arXiv:1406.2661).

    G minimizes -E s(D(G(z))) = E log(1 - sigmoid(D(G(z)))), the negative of D's loss on fakes.
    """

    name = "minimax"

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return -_cross_entropy(fake.logits, 0.0)
