"""Convolutions among patches: all of them where the image is small, so that depth costs little.

Pixels are folded into channels and back, Shi et al. 2016 (arXiv:1609.05158).
"""

from __future__ import annotations

from math import gcd

from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Discriminator, Generator, Shape
from gancore.errors import ConfigError
from gancore_plugins.networks.dcgan import OneHotConcat, initialize
from gancore_plugins.networks.pyramid import image_shape
from gancore_plugins.networks.verdict import CLASSIFIER, Verdict, WithHead


class SubpixelGenerator(Generator):
    """Residual convolutions among patches, folded out at the end, Shi et al. 2016 (arXiv:1609.05158); tanh at the end.

    What each convolution adds is batch-normalized first, He et al. 2016 (arXiv:1603.05027).
    Labels are appended to the latent as one-hot vectors.
    """

    name = "subpixel"
    width: int = Field(default=32, ge=1, le=4096, description="channels of every hidden layer")
    depth: int = Field(default=3, ge=0, le=64, description="hidden convolutions")
    patch: int = Field(default=4, ge=2, le=64, description="side of a patch in pixels; divides both sides of images")

    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        channels, height, width = _patches(shape, self.patch, "generator subpixel")
        layers: list[nn.Module] = [
            nn.Linear(latent_dim + (num_classes or 0), self.width * height * width),
            nn.Unflatten(1, (self.width, height, width)),
        ]
        layers += [_Residual(*self._layer(self.width)) for _ in range(self.depth)]
        layers += self._layer(channels)
        return OneHotConcat([*layers, nn.PixelShuffle(self.patch), nn.Tanh()], num_classes).apply(initialize)

    def _layer(self, outputs: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(self.width), nn.ReLU(), nn.Conv2d(self.width, outputs, 3, 1, 1)]


class SubpixelDiscriminator(Discriminator):
    """Convolutions among patches, without normalization, Shi et al. 2016 (arXiv:1609.05158); one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "subpixel"
    width: int = Field(default=32, ge=1, le=4096, description="channels of every hidden layer")
    depth: int = Field(default=3, ge=0, le=64, description="hidden convolutions after the first")
    patch: int = Field(default=4, ge=2, le=64, description="side of a patch in pixels; divides both sides of images")
    classifier: bool = Field(default=False, description=CLASSIFIER)

    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        inputs, height, width = _patches(shape, self.patch, "discriminator subpixel")
        layers: list[nn.Module] = [nn.PixelUnshuffle(self.patch)]
        for _ in range(self.depth + 1):
            layers += [nn.Conv2d(inputs, self.width, 3, 1, 1), nn.LeakyReLU(0.2)]
            inputs = self.width
        body = nn.Sequential(*layers, nn.Flatten())
        verdict = Verdict(inputs * height * width, num_classes, classifier=self.classifier)
        return WithHead(body, verdict).apply(initialize)


class _Residual(nn.Sequential):
    """Adds what the layers make of features (N, C, H, W) to these."""

    def forward(self, features: Tensor) -> Tensor:
        added = features
        for layer in self:
            added = layer(added)
        return features + added


def _patches(shape: Shape, patch: int, who: str) -> tuple[int, int, int]:
    """Pixels of a patch in all channels, and how many patches there are from top to bottom and from left to right."""
    channels, height, width = image_shape(shape, who)
    if height % patch or width % patch:
        common = gcd(height, width)
        fitting = [str(side) for side in range(2, min(common, 64) + 1) if common % side == 0]
        raise ConfigError(
            f"{who} divides images into patches of {patch}x{patch}, so {patch} must divide both sides; received "
            f"{height}x{width}",
            f"choose mlp, or --set {who.split()[0]}.patch={fitting[0]} (fitting: {', '.join(fitting)})"
            if fitting
            else "choose mlp",
        )
    return channels * patch**2, height // patch, width // patch
