"""The networks of R3GAN, Huang et al. 2024 (arXiv:2501.05441): modern residual networks without any normalization.

What replaces it is how they begin: every residual branch ends in zeros, and its other weights are small where there are
many blocks, Zhang et al. 2019 (arXiv:1901.09321). Images are resampled bilinearly. There is no tanh: what G makes is
not bounded by its form, and is clamped when it is drawn.
"""

from __future__ import annotations

import math
from typing import Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gancore.contracts import Component, Discriminator, Generator, Shape
from gancore_plugins.networks.pyramid import UpsamplingPlan

_SLOPE = 0.2
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))  # keeps the variance through LeakyReLU, He et al. 2015 (arXiv:1502.01852)
_EXPANSION = 2
"""A block is wider inside by this factor."""
L = TypeVar("L", nn.Conv2d, nn.Linear)


class _Stages(Component):
    """What both networks are made of."""

    width: int = Field(default=256, ge=1, le=4096, description="channels of every stage")
    blocks: int = Field(default=2, ge=1, le=64, description="residual blocks of every stage")
    group_width: int = Field(default=16, ge=1, description="channels that a convolution sees at once; divides 2 width")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if _EXPANSION * self.width % self.group_width:
            raise ValueError(f"group_width must divide twice the width, {_EXPANSION * self.width}")
        return self

    def stages(self, count: int) -> nn.ModuleList:
        """So many stages of blocks; how small their weights begin depends on how many there are in all."""
        scale = (count * self.blocks) ** -0.25
        return nn.ModuleList(
            nn.Sequential(*(_Block(self.width, self.group_width, scale) for _ in range(self.blocks)))
            for _ in range(count)
        )


class R3GANGenerator(_Stages, Generator):
    """Grouped residual blocks without normalization, Huang et al. 2024 (arXiv:2501.05441); not bounded by tanh."""

    name = "r3gan"

    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        return _R3GANGenerator(self, UpsamplingPlan.of(shape, "generator r3gan"), latent_dim, num_classes)


class R3GANDiscriminator(_Stages, Discriminator):
    """Grouped residual blocks without normalization, Huang et al. 2024 (arXiv:2501.05441); one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "r3gan"

    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        return _R3GANDiscriminator(self, UpsamplingPlan.of(shape, "discriminator r3gan"), num_classes)


class _R3GANGenerator(nn.Module):
    def __init__(
        self, settings: R3GANGenerator, pyramid: UpsamplingPlan, latent_dim: int, num_classes: int | None
    ) -> None:
        super().__init__()
        width = settings.width
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, latent_dim)
        inputs = latent_dim * (1 if num_classes is None else 2)
        self.basis = nn.Parameter(torch.randn(width, *pyramid.base))
        self.mixing = _begin(nn.Linear(inputs, width, bias=False), 1.0)
        self.stages = settings.stages(pyramid.doublings + 1)
        self.image = _begin(nn.Conv2d(width, pyramid.channels, 1, bias=False), 1.0)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embedding is not None and labels is not None:
            latent = torch.cat([latent, self.embedding(labels)], dim=1)
        features: Tensor = self.basis * self.mixing(latent)[:, :, None, None]
        for place, stage in enumerate(self.stages):
            if place:
                features = interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = stage(features)
        images: Tensor = self.image(features)
        return images


class _R3GANDiscriminator(nn.Module):
    def __init__(self, settings: R3GANDiscriminator, pyramid: UpsamplingPlan, num_classes: int | None) -> None:
        super().__init__()
        width = settings.width
        self.start = _begin(nn.Conv2d(pyramid.channels, width, 1, bias=False), 1.0)
        self.stages = settings.stages(pyramid.doublings + 1)
        # One weight for each place of each channel: the mirror image of the generator's basis.
        self.reading = _begin(nn.Conv2d(width, width, pyramid.base, groups=width, bias=False), 1.0)
        self.verdict = _begin(nn.Linear(width, 1 if num_classes is None else width, bias=False), 1.0)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features: Tensor = self.start(images)
        for place, stage in enumerate(self.stages):
            if place:
                features = avg_pool2d(features, 2)  # what bilinear resampling by one half is
            features = stage(features)
        said: Tensor = self.verdict(self.reading(features).flatten(1))
        if self.embedding is None or labels is None:
            return said
        projected: Tensor = (said * self.embedding(labels)).sum(dim=1, keepdim=True)
        return projected / math.sqrt(said.shape[1])


class _Block(nn.Module):
    """An inverted bottleneck (N, C, H, W) to (N, C, H, W): widened, convolved in groups, narrowed, and added."""

    def __init__(self, width: int, group_width: int, scale: float) -> None:
        super().__init__()
        wide = _EXPANSION * width
        self.branch = nn.Sequential(
            _begin(nn.Conv2d(width, wide, 1, bias=False), _GAIN * scale),
            _BiasedActivation(wide),
            _begin(nn.Conv2d(wide, wide, 3, padding=1, groups=wide // group_width, bias=False), _GAIN * scale),
            _BiasedActivation(wide),
            _begin(nn.Conv2d(wide, width, 1, bias=False), 0.0),
        )

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = features + self.branch(features)
        return changed


class _BiasedActivation(nn.Module):
    """An offset for each channel, then LeakyReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.leaky_relu(features + self.bias, _SLOPE)


def _begin(layer: L, gain: float) -> L:
    """The layer with weights of standard deviation gain / sqrt(fan in)."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    return layer
