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
"""The operations by name. Each draws its random parameters for each image."""


class DiffAugment(Augmentation):
    """Color, translation, cutout and mirroring, all differentiable, Zhao et al. 2020 (arXiv:2006.10738)."""

    name = "diffaugment"
    policy: tuple[Policy, ...] = Field(
        default=("translation",), min_length=1, description="operations, in this order; flip mirrors at random"
    )
    probability: Schedulable = Field(default=1.0, ge=0, le=1, description="share of images to augment")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.probability, time)

    def build(self, shape: Shape, mirrors: bool) -> Augment:
        check_policy(self.policy, shape, mirrors)
        return self._apply

    def _apply(self, images: Tensor, strength: float) -> Tensor:
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < strength
        augmented = images
        for name in self.policy:
            augmented = OPERATIONS[name](augmented)
        return torch.where(chosen, augmented, images)  # (N, C, H, W)


def check_policy(policy: tuple[Policy, ...], shape: Shape, mirrors: bool) -> None:
    """Raise ConfigError for data that the operations do not fit."""
    if len(shape) != 3:
        raise ConfigError(
            f"augmentations need images (C, H, W); the data has shape {tuple(shape)}", "remove the augmentations"
        )
    if "flip" in policy and not mirrors:
        raise ConfigError(
            "flip needs data in which mirrored images are as likely as the images, and this dataset does not declare "
            "that: G would learn to draw mirrored images",
            "remove flip from the policy",
        )
