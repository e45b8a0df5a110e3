"""An augmentation that blurs the border between real images and fakes."""

import torch
from pydantic import Field
from torch import Tensor

from gancore import Augment, Augmentation, Schedulable, Shape, TrainingTime, value_at


class InstanceNoise(Augmentation):
    """Normal noise on what D sees, Sonderby et al. 2017 (arXiv:1610.04490); best less and less of it."""

    name = "instance-noise"
    std: float = Field(default=0.2, gt=0, le=2, description="standard deviation; from black to white it is 2")
    probability: Schedulable = Field(default=1.0, ge=0, le=1, description="share of images that are changed")

    def strength(self, moment: TrainingTime) -> float:
        return value_at(self.probability, moment)

    def build(self, shape: Shape, mirrors: bool) -> Augment:
        return self._apply

    def _apply(self, images: Tensor, strength: float) -> Tensor:
        chosen = torch.rand(len(images), *[1] * (images.ndim - 1), device=images.device) < strength
        changed: Tensor = images + self.std * torch.randn_like(images) * chosen
        return changed
