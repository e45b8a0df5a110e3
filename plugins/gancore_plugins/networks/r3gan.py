"""The networks of R3GAN, Huang et al. 2024 (arXiv:2501.05441): modern residual networks without normalization.

Initialization takes the place of normalization: the last convolution of each residual branch starts at zero, and the
others are scaled down with the number of blocks, Zhang et al. 2019 (arXiv:1901.09321). Images are resampled bilinearly.
The generator has no tanh: its output is unbounded, and is clamped to [-1, 1] when samples are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise, starmap
from typing import Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gancore.contracts import Component, Discriminator, Generator, Spec
from gancore_plugins.networks.condition import condition_embedding, flat_condition
from gancore_plugins.networks.head import MINIBATCH_STDDEV, MinibatchStddev
from gancore_plugins.networks.upsampling import UpsamplingPlan
from gancore_plugins.networks.widths import BOUNDED, bounded, scaled

_SLOPE = 0.2
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))  # keeps the variance through LeakyReLU, He et al. 2015 (arXiv:1502.01852)
_EXPANSION = 2
"""Channels inside a block, as a multiple of the width."""
L = TypeVar("L", nn.Conv2d, nn.Linear)


class _ResidualStages(Component):
    """Fields that both networks share."""

    width: int = Field(default=256, ge=1, le=4096, description=f"channels of every stage {BOUNDED}")
    blocks: int = Field(default=2, ge=1, le=64, description="residual blocks of every stage")
    group_width: int = Field(
        default=16, ge=1, description="channels in a group of a grouped convolution; divides 2 width"
    )

    @model_validator(mode="after")
    def _check_group_width(self) -> Self:
        if _EXPANSION * self.width % self.group_width:
            raise ValueError(f"group_width {self.group_width} must divide twice the width, {_EXPANSION * self.width}")
        return self

    def widths(self, spec: Spec, sizes: Iterable[tuple[int, int]]) -> list[int]:
        """Return the channels of stages at these sizes, such that groups divide twice of them."""
        multiple = self.group_width // math.gcd(self.group_width, _EXPANSION)
        width = scaled(self.width, spec, multiple=multiple)
        return [bounded(width, size, multiple=multiple) for size in sizes]

    def stages(self, widths: Sequence[int]) -> nn.ModuleList:
        """Build a stage for each width, with initial weights scaled by (number of all blocks)^(-1/4)."""
        scale = (len(widths) * self.blocks) ** -0.25
        return nn.ModuleList(
            nn.Sequential(*(_Block(width, self.group_width, scale) for _ in range(self.blocks))) for width in widths
        )


class R3GANGenerator(_ResidualStages, Generator):
    """Grouped residual blocks without normalization, Huang et al. 2024 (arXiv:2501.05441); not bounded by tanh.

    Labels are embedded, and the embedding is appended to the latent; so is a linear function of a vector as condition.
    """

    name = "r3gan"

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        return _R3GANGenerator(self, plan, spec)


class R3GANDiscriminator(_ResidualStages, Discriminator):
    """Grouped residual blocks without normalization, Huang et al. 2024 (arXiv:2501.05441); one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "r3gan"
    minibatch_stddev: int | None = Field(default=None, ge=2, description=f"{MINIBATCH_STDDEV}; absent: off")

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        return _R3GANDiscriminator(self, plan, spec)


class _R3GANGenerator(nn.Module):
    unbounded = True  # images are clamped when samples are drawn

    def __init__(self, settings: R3GANGenerator, plan: UpsamplingPlan, spec: Spec) -> None:
        super().__init__()
        condition, latent_dim = flat_condition(spec, settings), spec.latent_dim
        widths = settings.widths(spec, plan.sizes)
        self.embedding = condition_embedding(condition, latent_dim)
        inputs = latent_dim * (1 if condition is None else 2)
        self.basis = nn.Parameter(torch.randn(widths[0], *plan.base))
        self.basis_gains = _init(nn.Linear(inputs, widths[0], bias=False), 1.0)
        self.stages = settings.stages(widths)
        self.transitions = nn.ModuleList(starmap(_transition, pairwise(widths)))
        self.to_image = _init(nn.Conv2d(widths[-1], plan.channels, 1, bias=False), 1.0)
        self.cropped = nn.Sequential(*plan.cropping())

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.embedding is not None and condition is not None:
            latent = torch.cat([latent, self.embedding(condition)], dim=1)  # (N, 2 Z)
        features: Tensor = self.stages[0](self.basis * self.basis_gains(latent)[:, :, None, None])  # (N, C', h, w)
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            # A 1x1 convolution without bias commutes with resampling, and costs a quarter before it.
            features = interpolate(transition(features), scale_factor=2, mode="bilinear", align_corners=False)
            features = stage(features)  # (N, C', H', W'), each time twice as high and wide
        images: Tensor = self.cropped(self.to_image(features))  # (N, C, H, W)
        return images


class _R3GANDiscriminator(nn.Module):
    def __init__(self, settings: R3GANDiscriminator, plan: UpsamplingPlan, spec: Spec) -> None:
        super().__init__()
        condition = flat_condition(spec, settings)
        widths = settings.widths(spec, plan.sizes[::-1])
        width = widths[-1]
        self.padded = nn.Sequential(*plan.padding())
        self.from_image = _init(nn.Conv2d(plan.channels, widths[0], 1, bias=False), 1.0)
        self.stages = settings.stages(widths)
        self.transitions = nn.ModuleList(starmap(_transition, pairwise(widths)))
        self.stddev = MinibatchStddev(settings.minibatch_stddev) if settings.minibatch_stddev else None
        features = width + (self.stddev is not None)
        # The counterpart of the generator's basis: one weight for each pixel of each channel.
        self.basis = _init(nn.Conv2d(features, features, plan.base, groups=features, bias=False), 1.0)
        self.linear = _init(nn.Linear(features, 1 if condition is None else width, bias=False), 1.0)
        self.embedding = condition_embedding(condition, width)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        features: Tensor = self.stages[0](self.from_image(self.padded(images)))  # (N, C', H, W)
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            features = transition(avg_pool2d(features, 2))  # the pooling equals bilinear resampling by one half
            features = stage(features)  # (N, C', H', W'), each time half as high and wide
        if self.stddev is not None:
            features = self.stddev(features)  # (N, C' + 1, h, w)
        outputs: Tensor = self.linear(self.basis(features).flatten(1))  # (N, 1), or (N, C') with a condition
        if self.embedding is None or condition is None:
            return outputs
        logits: Tensor = (outputs * self.embedding(condition)).sum(dim=1, keepdim=True)  # (N, 1)
        return logits / math.sqrt(outputs.shape[1])


def _transition(inputs: int, outputs: int) -> nn.Module:
    """Return a map from the channels of a stage to those of the next: a 1x1 convolution where they differ."""
    return nn.Identity() if inputs == outputs else _init(nn.Conv2d(inputs, outputs, 1, bias=False), 1.0)


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
