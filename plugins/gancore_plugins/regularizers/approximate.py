"""R1 and R2 from finite differences, for a D that cannot be differentiated twice, Lin et al. 2025 (arXiv:2501.08316).

For noise e ~ N(0, I) and a small sigma, D(x + sigma e) - D(x) is nearly sigma e . grad D(x). The mean of its square is
sigma^2 |grad D(x)|^2. Divided by sigma^2 it is what r1 and r2 penalize, so that gamma means the same there and here.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from gancore.contracts import Output, Regularizer, Schedulable, Scores, TrainingTime, value_at
from gancore.errors import ConfigError


class _FiniteDifference(Regularizer):
    """gamma / 2 E (D(x + sigma e) - D(x))^2 / sigma^2, from two more passes of D in float32, without augmentations."""

    gamma: Schedulable = Field(default=10.0, ge=0, description="weight of half the mean squared gradient, as in r1")
    sigma: float = Field(
        default=0.01,
        ge=1e-4,  # less drowns in the rounding of float32
        description="standard deviation of the noise, for images in [-1, 1]; the paper's value",
    )

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.gamma, time)

    def _penalty(self, scores: Scores) -> Tensor:
        images = scores.images.detach()
        near = images + self.sigma * torch.randn_like(images)
        change = (_logits(scores, near) - _logits(scores, images)).sum(dim=1)  # (N,)
        return (change / self.sigma).square().mean() / 2


class R1Approximate(_FiniteDifference):
    """R1 at real images from finite differences, Lin et al. 2025 (arXiv:2501.08316).

    gamma / 2 E (D(x + sigma e) - D(x))^2 / sigma^2 with noise e ~ N(0, I), whose expectation nears that of r1 as sigma
    gets smaller. D must not draw random numbers, as dropout does.
    """

    name = "r1-approximate"

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        return self._penalty(real)


class R2Approximate(_FiniteDifference):
    """R2 at fakes from finite differences, Lin et al. 2025 (arXiv:2501.08316).

    gamma / 2 E (D(x + sigma e) - D(x))^2 / sigma^2 with noise e ~ N(0, I) at fakes x = G(z), whose expectation nears
    that of r2 as sigma gets smaller. D must not draw random numbers, as dropout does.
    """

    name = "r2-approximate"

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        return self._penalty(fake)


def _logits(scores: Scores, images: Tensor) -> Tensor:
    """Return D's logits (N, K) for images, without augmentations: they would draw other parameters in each pass."""
    discriminator = scores.players.discriminator
    if any(isinstance(part, _DropoutNd) and part.p > 0 and part.training for part in discriminator.modules()):
        raise ConfigError(
            "finite differences need a discriminator that draws no random numbers, and this one has dropout",
            "turn dropout off, as with --set discriminator.dropout=0, or use r1 and r2",
        )
    condition = () if scores.condition is None else (scores.condition,)
    extras = {name: scores.extras[name].detach() for name in getattr(discriminator, "extra_inputs", ())}
    returned = discriminator(images, *condition, **extras)
    logits: Tensor = returned.logits if isinstance(returned, Output) else returned
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
