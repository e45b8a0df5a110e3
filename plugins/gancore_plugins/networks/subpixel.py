"""Convolutions on patches: every layer works at the image's size divided by the patch size, so depth costs little.

Pixels are folded into channels and back by pixel (un)shuffle, Shi et al. 2016 (arXiv:1609.05158).
"""

from __future__ import annotations

from math import gcd

from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Discriminator, Generator, Shape, Spec
from gancore.errors import ConfigError
from gancore_plugins.networks.condition import ConditionConcat, condition_width, flat_condition
from gancore_plugins.networks.dcgan import init_dcgan
from gancore_plugins.networks.head import CLASSIFIER, DiscriminatorHead, WithHead
from gancore_plugins.networks.upsampling import image_shape
from gancore_plugins.networks.widths import scaled

_MAX_PATCH = 64
_MAX_CELLS = 32
"""Most patches on a side that the generator's linear layer makes, where both sides can be halved.

For larger images its output is enlarged.
"""


class SubpixelGenerator(Generator):
    """Residual convolutions on patches, then pixel shuffle, Shi et al. 2016 (arXiv:1609.05158); tanh at the end.

    Batch normalization and ReLU come before each convolution, He et al. 2016 (arXiv:1603.05027).
    Labels are appended to the latent as one-hot vectors, vectors of a condition as they are.
    """

    name = "subpixel"
    width: int = Field(default=32, ge=1, le=4096, description="channels of every hidden layer")
    depth: int = Field(default=3, ge=0, le=64, description="hidden convolutions")
    patch: int = Field(default=4, ge=2, le=_MAX_PATCH, description="side of a patch in pixels; divides H and W")

    def build(self, spec: Spec) -> nn.Module:
        channels, height, width = _folded_shape(spec.shape, self)
        condition, hidden = flat_condition(spec, self), scaled(self.width, spec)
        enlarged = _enlargement(height, width)
        height, width = height // enlarged, width // enlarged
        layers: list[nn.Module] = [
            nn.Linear(spec.latent_dim + condition_width(condition), hidden * height * width),
            nn.Unflatten(1, (hidden, height, width)),
            *([nn.Upsample(scale_factor=enlarged)] if enlarged > 1 else []),
        ]
        layers += [_Residual(*_activated_convolution(hidden, hidden)) for _ in range(self.depth)]
        layers += _activated_convolution(hidden, channels)
        layers += [nn.PixelShuffle(self.patch), *([nn.Tanh()] if spec.bounded else [])]
        return ConditionConcat(layers, condition).apply(init_dcgan)


class SubpixelDiscriminator(Discriminator):
    """Convolutions on patches, without normalization, Shi et al. 2016 (arXiv:1609.05158); one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "subpixel"
    width: int = Field(default=32, ge=1, le=4096, description="channels of every hidden layer")
    depth: int = Field(default=3, ge=0, le=64, description="hidden convolutions after the first")
    patch: int = Field(default=4, ge=2, le=_MAX_PATCH, description="side of a patch in pixels; divides H and W")
    classifier: bool = Field(default=False, description=CLASSIFIER)

    def build(self, spec: Spec) -> nn.Module:
        inputs, height, width = _folded_shape(spec.shape, self)
        layers: list[nn.Module] = [nn.PixelUnshuffle(self.patch)]
        hidden = scaled(self.width, spec)
        for _ in range(self.depth + 1):
            layers += [nn.Conv2d(inputs, hidden, 3, 1, 1), nn.LeakyReLU(0.2)]
            inputs = hidden
        body = nn.Sequential(*layers, nn.Flatten())
        head = DiscriminatorHead(inputs * height * width, flat_condition(spec, self), classifier=self.classifier)
        return WithHead(body, head).apply(init_dcgan)


def _activated_convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 3, 1, 1)]


class _Residual(nn.Sequential):
    """Features (N, C, H, W) plus what the layers make of them."""

    def forward(self, features: Tensor) -> Tensor:
        hidden = features
        for layer in self:
            hidden = layer(hidden)
        return features + hidden  # (N, C, H, W)


def _enlargement(height: int, width: int) -> int:
    """Return the power of 2 by which features become as many patches as the image, so that a linear layer stays small.

    Without a bound its weights would grow with the pixels, to 53 million at 512x512 with the default width.
    """
    factor = 1
    while max(height, width) > _MAX_CELLS * factor and height % (2 * factor) == width % (2 * factor) == 0:
        factor *= 2
    return factor


def _folded_shape(shape: Shape, component: SubpixelGenerator | SubpixelDiscriminator) -> tuple[int, int, int]:
    """Return (C patch^2, H / patch, W / patch). Raise ConfigError, with the component's name, if that has fractions."""
    patch = component.patch
    channels, height, width = image_shape(shape, component)
    if height % patch or width % patch:
        common = gcd(height, width)
        possible = [str(side) for side in range(2, min(common, _MAX_PATCH) + 1) if common % side == 0]
        raise ConfigError(
            f"{component.kind} {component.name} divides images into patches of {patch}x{patch}, so {patch} must divide "
            f"both sides; received {height}x{width}",
            f"use mlp, or --set {component.kind}.patch={possible[0]} (possible: {', '.join(possible)})"
            if possible
            else "use mlp",
        )
    return channels * patch**2, height // patch, width // patch
