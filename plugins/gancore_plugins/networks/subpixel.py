"""Convolutions among patches: all of them where the image is small, so that depth costs little.

Pixels are folded into channels and back, Shi et al. 2016 (arXiv:1609.05158).
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gancore.contracts import Discriminator, Generator, Output, Shape
from gancore.errors import ConfigError
from gancore_plugins.networks.dcgan import WithCodes, initialize
from gancore_plugins.networks.pyramid import image_shape
from gancore_plugins.networks.verdict import CLASSIFIER, Verdict


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
        return WithCodes([*layers, nn.PixelShuffle(self.patch), nn.Tanh()], num_classes).apply(initialize)

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
    label_planes: bool = Field(
        default=False,
        description="tell the first convolution the label too, Mirza and Osindero 2014 (arXiv:1411.1784)",
    )
    classifier: bool = Field(default=False, description=CLASSIFIER)

    @model_validator(mode="after")
    def _reads_what_it_is_not_told(self) -> SubpixelDiscriminator:
        if self.classifier and self.label_planes:
            raise ValueError("classifier cannot read the class off an image beside which label_planes tell it")
        return self

    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        inputs, height, width = _patches(shape, self.patch, "discriminator subpixel")
        planes = num_classes if self.label_planes else None
        inputs += planes or 0
        layers: list[nn.Module] = []
        for _ in range(self.depth + 1):
            layers += [nn.Conv2d(inputs, self.width, 3, 1, 1), nn.LeakyReLU(0.2)]
            inputs = self.width
        body = nn.Sequential(*layers, nn.Flatten())
        verdict = Verdict(inputs * height * width, num_classes, classifier=self.classifier)
        return _Discriminator(self.patch, planes, body, verdict).apply(initialize)


class _Discriminator(nn.Module):
    """Reads patches, and beside them the label as a plane of ones among planes of zeros, if there are `planes`."""

    def __init__(self, patch: int, planes: int | None, body: nn.Module, verdict: Verdict) -> None:
        super().__init__()
        self.fold, self.body, self.verdict = nn.PixelUnshuffle(patch), body, verdict
        self._planes = planes

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | Output:
        patches = self.fold(images)
        if self._planes is not None and labels is not None:
            told = one_hot(labels, self._planes).to(patches.dtype)[:, :, None, None]
            patches = torch.cat([patches, told.expand(-1, -1, *patches.shape[2:])], dim=1)
        said: Tensor | Output = self.verdict(self.body(patches), labels)
        return said


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
        raise ConfigError(
            f"{who} divides images into patches of {patch}x{patch}, so {patch} must divide both sides; received "
            f"{height}x{width}",
            "set another patch, or choose mlp",
        )
    return channels * patch**2, height // patch, width // patch
