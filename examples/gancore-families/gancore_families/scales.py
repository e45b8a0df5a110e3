"""Generator and discriminator with images at two resolutions."""

import math
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from gancore import ConfigError, Discriminator, Generated, Generator, Spec


def _even(spec: Spec) -> tuple[int, int, int]:
    """Return the shape of the images. Raise ConfigError unless their sides are even."""
    if len(spec.shape) != 3 or spec.shape[1] % 2 or spec.shape[2] % 2:
        raise ConfigError(f"'scales' needs images (C, H, W) of even sides; received shape {spec.shape}", "resize them")
    channels, height, width = spec.shape
    return channels, height, width


class ScalesGenerator(Generator):
    """Convolutions with an output at half and at full resolution, Karnewar and Wang 2020 (arXiv:1903.06048)."""

    name = "scales"
    width: int = Field(default=32, ge=1, le=1024, description="channels of the hidden layers")

    def build(self, spec: Spec) -> nn.Module:
        return _ScalesNetwork(spec, self.width)


class _ScalesNetwork(nn.Module):
    """Latent (N, Z) to images (N, C, H, W) with the extra `half`, images (N, C, H/2, W/2)."""

    def __init__(self, spec: Spec, width: int) -> None:
        super().__init__()
        channels, rows, columns = _even(spec)
        small = (width, rows // 2, columns // 2)
        self.coarse = nn.Sequential(nn.Linear(spec.latent_dim, math.prod(small)), nn.Unflatten(1, small), nn.ReLU())
        self.fine = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.to_half, self.to_full = nn.Conv2d(width, channels, 1), nn.Conv2d(width, channels, 1)
        self.output = nn.Tanh() if spec.bounded else nn.Identity()

    def forward(self, latent: Tensor) -> Generated:
        coarse = self.coarse(latent)
        images = self.output(self.to_full(self.fine(coarse)))
        return Generated(images, {"half": self.output(self.to_half(coarse))})

    def encode(self, images: Tensor) -> Mapping[str, Tensor]:
        return {"half": avg_pool2d(images, 2)}


class ScalesDiscriminator(Discriminator):
    """Convolutions that see both resolutions of an image, Karnewar and Wang 2020 (arXiv:1903.06048)."""

    name = "scales"
    width: int = Field(default=32, ge=1, le=1024, description="channels of the hidden layers")

    def build(self, spec: Spec) -> nn.Module:
        return _ScalesCritic(spec, self.width)


class _ScalesCritic(nn.Module):
    """Images (N, C, H, W) and their versions at half the resolution to logits (N, 1)."""

    extra_inputs = ("half",)

    def __init__(self, spec: Spec, width: int) -> None:
        super().__init__()
        channels, rows, columns = _even(spec)
        self.fine = nn.Sequential(nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.coarse = nn.Sequential(nn.Conv2d(width + channels, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten())
        self.logit = nn.Linear(width * rows * columns // 4, 1)

    def forward(self, images: Tensor, half: Tensor) -> Tensor:
        logits: Tensor = self.logit(self.coarse(torch.cat([self.fine(images), half], dim=1)))
        return logits
