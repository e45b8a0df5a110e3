"""Augmentations at work: D behind the changes to what it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancore.contracts import Augment, Scores
from gancore.errors import PluginError, blame
from gancore.training.networks import call, described, judge


@dataclass(frozen=True)
class ActiveAugmentation:
    """One augmentation, and the share of images that it changes at present."""

    label: str
    working: Augment
    strength: float


@dataclass(frozen=True)
class AugmentedDiscriminator:
    """D as it scores everything: behind its augmentations. It is called as D is, and as regularizers call a critic."""

    discriminator: nn.Module
    augmentations: Sequence[ActiveAugmentation] = ()
    products: Callable[[], AbstractContextManager[object]] = nullcontext
    """Gives the block in which D is called, of another precision perhaps; augmentations work outside of it."""

    def __call__(self, images: Tensor, labels: Tensor | None = None) -> Any:  # Any: what D returns
        """What D returns for images (N, *shape), augmented first."""
        for stage in self.augmentations:
            # Where pixels go to takes more than the 8 bits in which networks may multiply.
            with blame(f"augmentation {stage.label!r}", "at work"), torch.autocast(images.device.type, enabled=False):
                changed = stage.working(images, stage.strength)
                if not isinstance(changed, Tensor) or _form(changed) != _form(images):
                    raise PluginError(
                        "an augmentation must give images of the shape, type and device that it was given, "
                        f"{tuple(images.shape)} {images.dtype} on {images.device}; {stage.label!r} gave "
                        f"{described(changed)}"
                    )
            images = changed
        with self.products():
            return call(self.discriminator, images, labels)

    def critic(self, images: Tensor, labels: Tensor | None) -> Scores:
        """What a regularizer asks of points of its own."""
        return judge(self, images, None, labels)

    def observe(self, real: Scores) -> None:
        """Shows an update of D to those that watch."""
        for stage in self.augmentations:
            watch = getattr(stage.working, "observe", None)
            if watch is not None:
                with blame(f"augmentation {stage.label!r}", "in observe()"):
                    watch(real)


def _form(images: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return images.shape, images.dtype, images.device
