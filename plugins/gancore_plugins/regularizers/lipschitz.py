"""Regularizers for a Lipschitz D: gradients of norm 1 between or around the images, or small weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Regularizer, Schedulable, Scores, TrainingTime, value_at
from gancore_plugins.regularizers.gradients import gradient_of


class _UnitNorm(Regularizer):
    """weight * E (|grad D(p)| - 1)^2 at points p that a subclass chooses."""

    weight: Schedulable = Field(default=10.0, ge=0, description="weight of the mean of (gradient norm - 1)^2")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time)


def _unit_norm_penalty(points: Tensor, real: Scores, extras: Mapping[str, Tensor]) -> Tensor:
    """Return the mean of (|grad D(p)| - 1)^2 over the points (N, *shape), with the condition of the real images."""
    points = points.detach().requires_grad_()
    # The square root has no finite gradient at zero (a flat D), so add a tiny number.
    norm = (gradient_of(real.players.score(points, real.condition, extras)).square().sum(dim=1) + 1e-12).sqrt()  # (N,)
    return (norm - 1).square().mean()


def _uniform(images: Tensor) -> Tensor:
    """Draw a number in [0, 1) for each image, (N, 1, …)."""
    return torch.rand(len(images), *(1 for _ in images.shape[1:]), device=images.device, dtype=images.dtype)


class GradientPenalty(_UnitNorm):
    """Gradient of norm 1 between real and fake images, Gulrajani et al. 2017, eq. 3 (arXiv:1704.00028).

    Each point is at a random position on the line from a fake image to a real one. D must not mix the images of a
    batch.
    """

    name = "wgan-gp"
    per_sample = True

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        share = _uniform(real.images)
        extras = {
            name: torch.lerp(fake.extras[name], of_real, share.view(-1, *(1,) * (of_real.ndim - 1)))
            for name, of_real in real.extras.items()
        }
        return _unit_norm_penalty(torch.lerp(fake.images, real.images, share), real, extras)


class DRAGAN(_UnitNorm):
    """Gradient of norm 1 around real images, Kodali et al. 2017, section 2.3 (arXiv:1705.07215).

    Points are real images plus u * `reach` * s * noise, as in the authors' code: s is the standard deviation of the
    batch, noise is uniform in [0, 1) per pixel, and u uniform in [0, 1) per image.
    """

    name = "dragan"
    whole_batch = True
    reach: float = Field(default=0.5, gt=0, description="size of the noise, in standard deviations of the images")

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        images = real.images
        noise = self.reach * images.std(correction=0) * torch.rand_like(images)
        return _unit_norm_penalty(images + _uniform(images) * noise, real, real.extras)


class WeightClipping(Regularizer):
    """Weights of D clamped to [-limit, limit], Arjovsky et al. 2017, algorithm 1 (arXiv:1701.07875).

    Only trained parameters are clipped, not buffers such as running statistics.
    """

    name = "weight-clipping"
    limit: Schedulable = Field(default=0.01, gt=0, description="largest absolute value of a weight")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.limit, time)

    def penalty(self, real: Scores, fake: Scores) -> None:
        return None

    @torch.no_grad()
    def project(self, module: nn.Module, strength: float) -> None:
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.clamp_(-strength, strength)
