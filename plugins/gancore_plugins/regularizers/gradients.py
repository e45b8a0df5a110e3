"""Penalties on D's gradient at real images or at fakes, Mescheder et al. 2018 (arXiv:1801.04406).

The gradient is that of logits with respect to images in [-1, 1]; its square is summed over pixels and averaged over the
batch. Code with images in [0, 1] needs a fourth of this gamma for the same penalty.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from gancore.contracts import Regularizer, Schedulable, Scores, TrainingTime, value_at


def gradient_of(scores: Scores) -> Tensor:
    """Return the gradient of each image's logits with respect to the image, (N, F); it is differentiable itself."""
    (gradient,) = torch.autograd.grad(scores.logits.sum(), scores.images, create_graph=True)
    return gradient.flatten(1)


class _ZeroCentered(Regularizer):
    """gamma / 2 E |grad D|^2, from the same forward pass as the loss."""

    gamma: Schedulable = Field(default=10.0, ge=0, description="weight of half the mean squared gradient")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.gamma, time)


class R1(_ZeroCentered):
    """Gradient of D at real images, gamma / 2 E |grad D(x)|^2, Mescheder et al. 2018, eq. 9 (arXiv:1801.04406)."""

    name = "r1"
    differentiates = frozenset({"real"})

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        return gradient_of(real).square().sum(dim=1).mean() / 2


class R2(_ZeroCentered):
    """Gradient of D at fakes, gamma / 2 E |grad D(G(z))|^2, Mescheder et al. 2018, eq. 10 (arXiv:1801.04406)."""

    name = "r2"
    differentiates = frozenset({"fake"})

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        return gradient_of(fake).square().sum(dim=1).mean() / 2
