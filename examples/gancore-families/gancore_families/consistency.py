"""Consistency of neighboring latents: D scores their images alike, and G draws different ones."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from gancore import Regularizer, Schedulable, Scores, TrainingTime, value_at
from gancore_families.checks import required


class _Weighted(Regularizer):
    """A regularizer whose strength is a field."""

    weight: Schedulable = Field(default=10.0, ge=0, description="weight of the mean squared difference")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time)


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
