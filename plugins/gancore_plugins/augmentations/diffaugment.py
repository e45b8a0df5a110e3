"""Differentiable augmentation, Zhao et al. 2020 (arXiv:2006.10738)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from gancore.contracts import Augment, Augmentation, Schedulable, Spec, TrainingTime, value_at
from gancore.errors import ConfigError
from gancore_plugins.augmentations import colors, operations

Policy = Literal["color", "translation", "cutout", "flip"]

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "color": operations.color,
    "translation": operations.translation,
    "cutout": operations.cutout,
    "flip": operations.flip,
}
"""The operations by name. Each draws its random parameters for each image."""
_MOVING = ("translation", "flip")


class DiffAugment(Augmentation):
    """Color, translation, cutout and mirroring, all differentiable, Zhao et al. 2020 (arXiv:2006.10738)."""

    name = "diffaugment"
    policy: tuple[Policy, ...] = Field(
        default=("translation",), min_length=1, description="operations, in this order; flip mirrors at random"
    )
    probability: Schedulable = Field(default=1.0, ge=0, le=1, description="share of images to augment")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.probability, time)

    def may_mirror(self) -> bool:
        return "flip" in self.policy

    def build(self, spec: Spec) -> Augment:
        check_policy(self.policy, spec)
        return self._apply

    def _apply(self, images: Tensor, strength: float) -> Tensor:
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < strength
        augmented = images
        for name in self.policy:
            augmented = OPERATIONS[name](augmented)
        return torch.where(chosen, augmented, images)  # (N, C, H, W)


def check_policy(policy: tuple[Policy, ...], spec: Spec) -> None:
    """Raise ConfigError for data that the operations do not fit."""
    check_images(spec)
    check_moves([name for name in policy if name in _MOVING], spec)
    check_colors([name for name in policy if name == "color"], spec, "remove color from the policy")
    if "flip" in policy and not spec.mirrors:
        raise ConfigError(
            "flip needs data in which mirrored images are as likely as the images, and this dataset does not declare "
            "that: G would learn to draw mirrored images",
            "remove flip from the policy",
        )


def check_images(spec: Spec) -> None:
    """Raise ConfigError for data that is not images (C, H, W)."""
    if len(spec.shape) != 3:
        raise ConfigError(
            f"augmentations need images (C, H, W); the data has shape {tuple(spec.shape)}", "remove the augmentations"
        )


def check_moves(moving: Sequence[str], spec: Spec) -> None:
    """Raise ConfigError if operations move images that have pictures as a condition."""
    if moving and isinstance(spec.condition, tuple) and len(spec.condition) > 1:
        raise ConfigError(
            f"{moving[0]} moves images, but not the pictures that are their condition, so a pair would no longer match",
            "leave only color and cutout in the policy",
        )


def check_colors(coloring: Sequence[str], spec: Spec, hint: str) -> None:
    """Raise ConfigError if operations change the colors of images whose channels are not colors."""
    if coloring and spec.shape[0] not in colors.CHANNELS:
        raise ConfigError(
            f"{coloring[0]} needs images of 1, 3 or 4 channels, which are colors; these have {spec.shape[0]}", hint
        )
