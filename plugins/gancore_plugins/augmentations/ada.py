"""Adaptive discriminator augmentation, Karras et al. 2020 (arXiv:2006.06676): more of it as D overfits more."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Augment, Augmentation, Scores, Spec
from gancore.errors import ConfigError
from gancore_plugins.augmentations.ada_operations import COLORING, GROUPS, MOVING, augmented
from gancore_plugins.augmentations.diffaugment import check_colors, check_images, check_moves

Operation = Literal[
    "blit",
    "geometric",
    "color",
    "noise",
    "cutout",
    "flip",
    "rotate90",
    "translation",
    "scale",
    "rotate",
    "anisotropic",
    "shift",
    "brightness",
    "contrast",
    "luma-flip",
    "hue",
    "saturation",
]

SAFE = 0.8
"""Probability up to which augmentations do not leak into G, by section 2.2 of the paper."""


class ADA(Augmentation):
    """Augmentation with a probability that adapts to D's overfitting, Karras et al. 2020 (arXiv:2006.06676).

    The mean sign of D's logits for real images should be `target`: the probability rises while the mean is above it,
    and falls while it is below. Each operation of the policy is applied to each image with that probability,
    independently, with the distributions of appendix B. A group of the paper stands for its operations: `blit` for
    flip, rotate90 and translation; `geometric` for scale, rotate, anisotropic and shift; `color` for brightness,
    contrast, luma-flip, hue and saturation. The default is the paper's best set for few images.

    Below a probability of 1, in practice up to 0.8 (section 2.2), augmentations do not leak into G: each operation
    leaves an image as it is more often than it makes any one other image of it, so only a G that draws images without
    augmentations fits the data. This holds for flips too. Still, `blit` mirrors only data that declares `mirrors`,
    since a default should not rely on that limit. `flip` by name is a choice of the user: data without `mirrors` takes
    it if `most` is at most 0.8.

    Images that are not square are rotated by 180 degrees instead of 90. Gray images have no hue and saturation. Alpha,
    the fourth channel, is moved with the colors, but not recolored.
    """

    name = "ada"
    policy: tuple[Operation, ...] = Field(
        default=("blit", "geometric", "color"), min_length=1, description="groups of operations, or single ones"
    )
    target: float = Field(default=0.6, gt=0, lt=1, description="target for the mean sign of D's logits for real images")
    interval: int = Field(default=4, ge=1, description="D updates between two changes of the probability")
    ramp_kimg: float = Field(
        default=500.0, gt=0, description="thousands of real images in which the probability can rise from 0 to 1"
    )
    start: float | None = Field(
        default=None, ge=0, le=1, description="probability at the start; default: that of --init-from, or else 0"
    )
    most: float = Field(default=SAFE, gt=0, le=1, description="largest probability; above 0.8 they can leak into G")

    def may_mirror(self) -> bool:
        return "blit" in self.policy or "flip" in self.policy

    def build(self, spec: Spec) -> Augment:
        check_images(spec)
        if self.start is not None and self.start > self.most:
            raise ConfigError(
                f"start {self.start} is larger than most, {self.most}", "increase most, or decrease start"
            )
        names = self._operations(spec)
        check_moves(sorted(names & MOVING), spec)
        check_colors(sorted(names & COLORING), spec, "leave only blit, geometric, noise and cutout in the policy")
        return _AdaptiveAugment(self, names)

    def _operations(self, spec: Spec) -> frozenset[str]:
        """Return the operations of the policy. Groups have those that suit the data."""
        grouped = {name for group in self.policy if group in GROUPS for name in GROUPS[group]}
        single = set[str](self.policy) - GROUPS.keys()
        if not spec.mirrors:
            grouped.discard("flip")
            if "flip" in single and self.most > SAFE:
                raise ConfigError(
                    "flip needs data in which mirrored images are as likely as the images, and this dataset does not "
                    f"declare that: at a probability of up to {self.most} G would learn to draw mirrored images",
                    f"set most to at most {SAFE}, or remove flip from the policy",
                )
        if spec.shape[0] == 1:
            grouped -= {"hue", "saturation"}
            if without_effect := sorted(single & {"hue", "saturation"}):
                raise ConfigError(
                    f"{without_effect[0]} has no effect on gray images", f"remove {without_effect[0]} from the policy"
                )
        return frozenset(grouped | single)


class _AdaptiveAugment(nn.Module):
    """The operations, with the probability and the statistics since its last change in buffers of the checkpoint."""

    probability: Tensor
    signs: Tensor
    updates: Tensor
    logged = ("probability",)

    def __init__(self, settings: ADA, names: frozenset[str]) -> None:
        super().__init__()
        self._settings, self._names = settings, names
        self.continued = ("probability",) if settings.start is None else ()
        self.register_buffer("probability", torch.tensor(settings.start or 0.0))
        self.register_buffer("signs", torch.zeros(2))  # sum of signs, number of images
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor, strength: float) -> Tensor:
        precise = images if images.dtype == torch.float64 else images.float()
        # The probability may be that of another run, with another limit.
        probability = self.probability.clamp(max=self._settings.most) * strength
        changed = augmented(precise, self._names, probability)  # (N, C, H, W)
        return changed.to(images.dtype)

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
