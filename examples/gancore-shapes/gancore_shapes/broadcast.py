"""A generator that is told at each pixel where it is."""

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore import ConfigError, Generator, Shape


class Broadcast(Generator):
    """Spatial broadcast decoder, Watters et al. 2019 (arXiv:1901.07017): the latent at each pixel, and its place."""

    name = "broadcast"
    width: int = Field(default=64, ge=1, le=512, description="channels of each hidden layer")
    depth: int = Field(default=3, ge=1, le=8, description="hidden layers, each of which sees one pixel")

    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        if len(shape) != 3:
            raise ConfigError(f"generator 'broadcast' draws images (C, H, W); received the shape {shape}", "take mlp")
        return _Decoder(shape, latent_dim, num_classes or 0, self.width, self.depth)


class _Decoder(nn.Module):
    """Latent (N, Z), and labels (N,) in a conditional run, to images (N, C, H, W) in [-1, 1]."""

    def __init__(self, shape: Shape, latent_dim: int, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        channels, height, rows = shape
        self.num_classes = num_classes
        places = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, rows), indexing="ij")
        self.register_buffer("places", torch.stack(places), persistent=False)
        self.places: Tensor
        # The same number is added at each pixel for the latent, so it is worked out once for all of them.
        self.of_latent = nn.Linear(latent_dim + num_classes, width)
        self.of_places = nn.Conv2d(2, width, 1, bias=False)
        hidden = [layer for _ in range(depth - 1) for layer in (nn.LeakyReLU(0.2), nn.Conv2d(width, width, 1))]
        self.rest = nn.Sequential(*hidden, nn.LeakyReLU(0.2), nn.Conv2d(width, channels, 1), nn.Tanh())

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            codes = nn.functional.one_hot(labels, self.num_classes).to(latent.dtype)
            latent = torch.cat([latent, codes], dim=1)
        images: Tensor = self.rest(self.of_latent(latent)[:, :, None, None] + self.of_places(self.places[None]))
        return images
