"""Differentiable augmentation, Zhao et al. 2020 (arXiv:2006.10738)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from gancore.contracts import Augment, Augmentation, Schedulable, Shape, TrainingTime, value_at
from gancore.errors import ConfigError
from gancore_plugins.augmentations import operations

Policy = Literal["color", "translation", "cutout", "flip"]

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "color": operations.color,
    "translation": operations.translation,
    "cutout": operations.cutout,
    "flip": operations.flip,
}
"""What can be done to images, each in a way of its own."""


class DiffAugment(Augmentation):
    """Color, translation, cutout and mirroring, all differentiable, Zhao et al. 2020 (arXiv:2006.10738)."""

    name = "diffaugment"
    policy: tuple[Policy, ...] = Field(
        default=("translation",), min_length=1, description="what is done, in this order; flip: mirrored at random"
    )
    probability: Schedulable = Field(default=1.0, ge=0, le=1, description="share of images that are changed")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.probability, time)

    def build(self, shape: Shape, mirrors: bool) -> Augment:
        check_policy(self.policy, shape, mirrors)
        return self._apply

    def _apply(self, images: Tensor, strength: float) -> Tensor:
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < strength
        changed = images
        for name in self.policy:
            changed = OPERATIONS[name](changed)
        return torch.where(chosen, changed, images)


def check_policy(policy: tuple[Policy, ...], shape: Shape, mirrors: bool) -> None:
    """Raises ConfigError for data that cannot be changed in such ways."""
    if len(shape) != 3:
        raise ConfigError(
            f"augmentations change images (C, H, W); this data has shape {tuple(shape)}", "leave augmentations out"
        )
    if "flip" in policy and not mirrors:
        raise ConfigError(
            "flip is for data in which a mirrored image is as likely as the image, and this dataset does not say so: "
            "G would learn to draw mirrored images",
            "leave flip out of the policy",
        )
