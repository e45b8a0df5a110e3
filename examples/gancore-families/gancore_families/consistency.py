"""Consistency regularizers: D should not change its score for a small change of an image or of a latent."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from gancore import ConfigError, Penalty, Regularizer, Schedulable, Scores, Spec, TrainingTime, value_at
from gancore_families.checks import required


class _Weighted(Regularizer):
    """A regularizer whose strength is a field."""

    weight: Schedulable = Field(default=10.0, ge=0, description="weight of the mean squared difference")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time)


class BalancedConsistency(_Weighted):
    """D scores a shifted image like the image, real or fake, Zhao et al. 2021 (arXiv:2002.04724)."""

    name = "bcr"
    pixels: int = Field(default=1, ge=1, le=64, description="largest shift in each direction")

    def build(self, spec: Spec) -> Penalty:
        if len(spec.shape) != 3:
            raise ConfigError(f"regularizer 'bcr' needs images (C, H, W); the data has shape {spec.shape}", "use zcr-d")
        return self

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        return self._change(real) + self._change(fake)

    def _change(self, scores: Scores) -> Tensor:
        moved = scores.players.score(shifted(scores.images, self.pixels), scores.condition, scores.extras)
        return mse_loss(moved.logits, scores.logits)


def shifted(images: Tensor, pixels: int) -> Tensor:
    """Return images (N, C, H, W), shifted together by up to `pixels` in each direction, periodically."""
    down, across = torch.randint(-pixels, pixels + 1, (2,)).tolist()
    return images.roll((down, across), dims=(2, 3))


class _LatentConsistency(_Weighted):
    std: float = Field(default=0.1, gt=0, le=1, description="standard deviation of the noise on the latent")

    def _neighbors(self, fake: Scores) -> Tensor:
        """Return the images of latents with noise."""
        latent = required(fake.latent, "the latents of fakes")
        return fake.players.generate(latent + self.std * torch.randn_like(latent), fake.condition).images


class LatentConsistencyD(_LatentConsistency):
    """D scores images of neighboring latents alike, zCR of Zhao et al. 2021 (arXiv:2002.04724)."""

    name = "zcr-d"

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        near = fake.players.score(self._neighbors(fake), fake.condition)
        return mse_loss(near.logits, fake.logits)


class LatentConsistencyG(_LatentConsistency):
    """G makes different images of neighboring latents, zCR of Zhao et al. 2021 (arXiv:2002.04724)."""

    name = "zcr-g"
    player = "generator"
    weight: Schedulable = Field(
        default=0.5, ge=0, description="weight of the mean squared difference, which is subtracted"
    )

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        return -mse_loss(self._neighbors(fake), fake.images)
