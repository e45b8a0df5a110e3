"""The networks of R3GAN, Huang et al. 2024 (arXiv:2501.05441): modern residual networks without normalization.

Initialization takes the place of normalization: the last convolution of each residual branch starts at zero, and the
others are scaled down with the number of blocks, Zhang et al. 2019 (arXiv:1901.09321). Images are resampled bilinearly.
The generator has no tanh: its output is unbounded, and is clamped to [-1, 1] when samples are drawn.
"""

from __future__ import annotations

import math
from typing import Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gancore.contracts import Component, Discriminator, Generator, Spec
from gancore_plugins.networks.upsampling import UpsamplingPlan
from gancore_plugins.networks.widths import scaled

_SLOPE = 0.2
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))  # keeps the variance through LeakyReLU, He et al. 2015 (arXiv:1502.01852)
_EXPANSION = 2
"""Channels inside a block, as a multiple of the width."""
L = TypeVar("L", nn.Conv2d, nn.Linear)


class _ResidualStages(Component):
    """Fields that both networks share."""

    width: int = Field(default=256, ge=1, le=4096, description="channels of every stage")
    blocks: int = Field(default=2, ge=1, le=64, description="residual blocks of every stage")
    group_width: int = Field(
        default=16, ge=1, description="channels in a group of a grouped convolution; divides 2 width"
    )

    @model_validator(mode="after")
    def _check_group_width(self) -> Self:
        if _EXPANSION * self.width % self.group_width:
            raise ValueError(f"group_width {self.group_width} must divide twice the width, {_EXPANSION * self.width}")
        return self

    def width_for(self, spec: Spec) -> int:
        """Return the width times the factor of the spec, so that groups still divide twice of it."""
        return scaled(self.width, spec, multiple=self.group_width // math.gcd(self.group_width, _EXPANSION))

    def stages(self, count: int, width: int) -> nn.ModuleList:
        """Build `count` stages, with initial weights scaled by (number of all blocks)^(-1/4)."""
        scale = (count * self.blocks) ** -0.25
        return nn.ModuleList(
            nn.Sequential(*(_Block(width, self.group_width, scale) for _ in range(self.blocks))) for _ in range(count)
        )


class R3GANGenerator(_ResidualStages, Generator):
    """Grouped residual blocks without normalization, Huang et al. 2024 (arXiv:2501.05441); not bounded by tanh.

    Labels are embedded, and the embedding is appended to the latent.
    """

    name = "r3gan"

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, "generator r3gan")
        return _R3GANGenerator(self, plan, spec)


class R3GANDiscriminator(_ResidualStages, Discriminator):
    """Grouped residual blocks without normalization, Huang et al. 2024 (arXiv:2501.05441); one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "r3gan"

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, "discriminator r3gan")
        return _R3GANDiscriminator(self, plan, spec)


class _R3GANGenerator(nn.Module):
    unbounded = True  # images are clamped when samples are drawn

    def __init__(self, settings: R3GANGenerator, plan: UpsamplingPlan, spec: Spec) -> None:
        super().__init__()
        width, latent_dim, num_classes = settings.width_for(spec), spec.latent_dim, spec.classes()
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, latent_dim)
        inputs = latent_dim * (1 if num_classes is None else 2)
        self.basis = nn.Parameter(torch.randn(width, *plan.base))
        self.basis_gains = _init(nn.Linear(inputs, width, bias=False), 1.0)
        self.stages = settings.stages(plan.doublings + 1, width)
        self.to_image = _init(nn.Conv2d(width, plan.channels, 1, bias=False), 1.0)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embedding is not None and labels is not None:
            latent = torch.cat([latent, self.embedding(labels)], dim=1)  # (N, 2 Z)
        features: Tensor = self.basis * self.basis_gains(latent)[:, :, None, None]  # (N, width, h, w)
        for index, stage in enumerate(self.stages):
            if index > 0:
                features = interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = stage(features)  # (N, width, 2^index h, 2^index w)
        images: Tensor = self.to_image(features)  # (N, C, H, W)
        return images


class _R3GANDiscriminator(nn.Module):
    def __init__(self, settings: R3GANDiscriminator, plan: UpsamplingPlan, spec: Spec) -> None:
        super().__init__()
        width, num_classes = settings.width_for(spec), spec.classes()
        self.from_image = _init(nn.Conv2d(plan.channels, width, 1, bias=False), 1.0)
        self.stages = settings.stages(plan.doublings + 1, width)
        # The counterpart of the generator's basis: one weight for each pixel of each channel.
        self.basis = _init(nn.Conv2d(width, width, plan.base, groups=width, bias=False), 1.0)
        self.linear = _init(nn.Linear(width, 1 if num_classes is None else width, bias=False), 1.0)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features: Tensor = self.from_image(images)  # (N, width, H, W)
        for index, stage in enumerate(self.stages):
            if index > 0:
                features = avg_pool2d(features, 2)  # equal to bilinear resampling by one half
            features = stage(features)  # (N, width, H / 2^index, W / 2^index)
        outputs: Tensor = self.linear(self.basis(features).flatten(1))  # (N, 1), or (N, width) with classes
        if self.embedding is None or labels is None:
            return outputs
        logits: Tensor = (outputs * self.embedding(labels)).sum(dim=1, keepdim=True)  # (N, 1)
        return logits / math.sqrt(outputs.shape[1])


class _Block(nn.Module):
    """An inverted bottleneck, (N, C, H, W) to (N, C, H, W): 1x1 to 2 C channels, grouped 3x3, 1x1 to C; plus input."""

    def __init__(
        self,
        width: int,  # C
        group_width: int,  # channels in a group of the 3x3 convolution
        scale: float,  # of the initial weights
    ) -> None:
        super().__init__()
        wide = _EXPANSION * width
        self.branch = nn.Sequential(
            _init(nn.Conv2d(width, wide, 1, bias=False), _GAIN * scale),
            _BiasedLeakyReLU(wide),
            _init(nn.Conv2d(wide, wide, 3, padding=1, groups=wide // group_width, bias=False), _GAIN * scale),
            _BiasedLeakyReLU(wide),
            _init(nn.Conv2d(wide, width, 1, bias=False), 0.0),
        )

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = features + self.branch(features)  # (N, C, H, W)
        return output


class _BiasedLeakyReLU(nn.Module):
    """Adds a trained bias to each channel, then applies LeakyReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.leaky_relu(features + self.bias, _SLOPE)


def _init(layer: L, gain: float) -> L:
    """Draw the layer's weights with standard deviation gain / sqrt(fan_in), and return the layer."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    return layer
