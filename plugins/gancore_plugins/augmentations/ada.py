"""Adaptive discriminator augmentation, Karras et al. 2020 (arXiv:2006.06676): as much as D's overfitting calls for."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Augment, Augmentation, Scores, Shape
from gancore_plugins.augmentations.diffaugment import OPERATIONS, Policy, check_policy


class ADA(Augmentation):
    """A probability of augmentation that follows how sure D is of real images, Karras et al. 2020 (arXiv:2006.06676).

    The share of real images that D takes for real, less the share that it does not, should be `target`: above it the
    probability rises, below it falls. With that probability an image is changed in each way of the policy, each time by
    a throw of its own; the ways are those of `diffaugment`.
    """

    name = "ada"
    policy: tuple[Policy, ...] = Field(
        default=("translation", "cutout"), min_length=1, description="what is done; see diffaugment"
    )
    target: float = Field(default=0.6, gt=0, lt=1, description="of the mean sign of D's logits for real images")
    interval: int = Field(default=4, ge=1, description="updates of D from one change of the probability to the next")
    ramp_kimg: float = Field(default=500.0, gt=0, description="thousands of real images to go from 0 to 1 at most")
    most: float = Field(default=0.85, gt=0, le=1, description="the largest probability")

    def build(self, shape: Shape, mirrors: bool) -> Augment:
        check_policy(self.policy, shape, mirrors)
        return _Controller(self)


class _Controller(nn.Module):
    """The probability, and what has been seen of D since it last changed: state of the run."""

    probability: Tensor
    signs: Tensor
    updates: Tensor

    def __init__(self, settings: ADA) -> None:
        super().__init__()
        self._settings = settings
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(2))  # their sum, and of how many images
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor, strength: float) -> Tensor:
        for name in self._settings.policy:
            chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.probability * strength
            images = torch.where(chosen, OPERATIONS[name](images), images)
        return images

    @torch.no_grad()
    def observe(self, real: Scores) -> None:
        """Counts the signs of D's mean logits for real images, and moves the probability when it is time."""
        self.signs[0] += real.logits.mean(dim=1).sign().sum()
        self.signs[1] += len(real.logits)
        self.updates += 1
        due = self.updates % self._settings.interval == 0  # stays on the device, which need not be waited for
        mean, seen = self.signs[0] / self.signs[1], self.signs[1]
        change = (mean - self._settings.target).sign() * seen / (1000 * self._settings.ramp_kimg)
        self.probability.add_(change * due).clamp_(0, self._settings.most)
        self.signs.mul_(~due)
