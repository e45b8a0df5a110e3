"""An augmentation that makes the distributions of real images and fakes overlap."""

import torch
from pydantic import Field
from torch import Tensor

from gancore import Augment, Augmentation, Schedulable, Spec, TrainingTime, value_at


class InstanceNoise(Augmentation):
    """Normal noise on D's input, Sonderby et al. 2017 (arXiv:1610.04490); best with a falling `probability`."""

    name = "instance-noise"
    std: float = Field(default=0.2, gt=0, le=2, description="standard deviation, for images in [-1, 1]")
    probability: Schedulable = Field(default=1.0, ge=0, le=1, description="share of images that get noise")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.probability, time)

    def build(self, spec: Spec) -> Augment:
        return self._apply

    def _apply(self, images: Tensor, strength: float) -> Tensor:
        chosen = torch.rand(len(images), *[1] * (images.ndim - 1), device=images.device) < strength
        noisy: Tensor = images + self.std * torch.randn_like(images) * chosen
        return noisy
