"""Losses that are linear in the scores of fakes for G: Wasserstein, and hinge, which gives D a margin."""

from __future__ import annotations

from torch import Tensor

from gancore.contracts import Loss, Scores


class Wasserstein(Loss):
    """Wasserstein distance in its dual form, Arjovsky et al. 2017 (arXiv:1701.07875), for a Lipschitz D.

    D minimizes E D(G(z)) - E D(x), G minimizes -E D(G(z)). The loss itself does not bound D: use a regularizer or
    spectral normalization.
    """

    name = "wasserstein"

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return fake.logits.mean() - real.logits.mean()

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return -fake.logits.mean()


class Hinge(Loss):
    """Hinge, Lim and Ye 2017 (arXiv:1705.02894): scores beyond 1 (real) and -1 (fake) cost D nothing.

    D minimizes E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))), G minimizes -E D(G(z)).
    """

    name = "hinge"

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return (1 - real.logits).relu().mean() + (1 + fake.logits).relu().mean()

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return -fake.logits.mean()
