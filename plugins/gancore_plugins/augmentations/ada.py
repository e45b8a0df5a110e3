"""Adaptive discriminator augmentation, Karras et al. 2020 (arXiv:2006.06676): more of it as D overfits more."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Augment, Augmentation, Scores, Spec
from gancore_plugins.augmentations.diffaugment import OPERATIONS, Policy, check_policy


class ADA(Augmentation):
    """Augmentation with a probability that adapts to D's overfitting, Karras et al. 2020 (arXiv:2006.06676).

    The mean sign of D's logits for real images should be `target`: the probability rises while the mean is above it,
    and falls while it is below. Each operation of the policy is applied to each image with that probability,
    independently. The operations are those of `diffaugment`.
    """

    name = "ada"
    policy: tuple[Policy, ...] = Field(
        default=("translation", "cutout"), min_length=1, description="operations, as in diffaugment"
    )
    target: float = Field(default=0.6, gt=0, lt=1, description="target for the mean sign of D's logits for real images")
    interval: int = Field(default=4, ge=1, description="D updates between two changes of the probability")
    ramp_kimg: float = Field(
        default=500.0, gt=0, description="thousands of real images in which the probability can rise from 0 to 1"
    )
    start: float = Field(default=0.0, ge=0, le=1, description="probability at the start, such as that of another run")
    most: float = Field(default=0.85, gt=0, le=1, description="largest probability")

    def may_mirror(self) -> bool:
        return "flip" in self.policy

    def build(self, spec: Spec) -> Augment:
        check_policy(self.policy, spec)
        return _AdaptiveAugment(self)


class _AdaptiveAugment(nn.Module):
    """The operations, with the probability and the statistics since its last change in buffers of the checkpoint."""

    probability: Tensor
    signs: Tensor
    updates: Tensor

    def __init__(self, settings: ADA) -> None:
        super().__init__()
        self._settings = settings
        self.register_buffer("probability", torch.tensor(settings.start))
        self.register_buffer("signs", torch.zeros(2))  # sum of signs, number of images
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor, strength: float) -> Tensor:
        for name in self._settings.policy:
            chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.probability * strength
            images = torch.where(chosen, OPERATIONS[name](images), images)  # (N, C, H, W)
        return images

    @torch.no_grad()
    def observe(self, real: Scores) -> None:
        """Count the signs of D's mean logits for real images; every `interval` updates, change the probability."""
        self.signs[0] += real.logits.mean(dim=1).sign().sum()
        self.signs[1] += len(real.logits)
        self.updates += 1
        due = self.updates % self._settings.interval == 0  # a tensor, so that the CPU does not wait for the device
        mean, count = self.signs[0] / self.signs[1], self.signs[1]
        change = (mean - self._settings.target).sign() * count / (1000 * self._settings.ramp_kimg)
        self.probability.add_(change * due).clamp_(0, self._settings.most)
        self.signs.mul_(~due)
