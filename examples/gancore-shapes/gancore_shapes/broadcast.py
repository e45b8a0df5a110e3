"""A generator that receives the coordinates of each pixel."""

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore import ConfigError, Generator, Shape, Spec


class Broadcast(Generator):
    """Spatial broadcast decoder, Watters et al. 2019 (arXiv:1901.07017): the latent and coordinates at each pixel."""

    name = "broadcast"
    width: int = Field(default=64, ge=1, le=512, description="channels of each hidden layer")
    depth: int = Field(default=3, ge=1, le=8, description="hidden layers, which are 1x1 convolutions")

    def build(self, spec: Spec) -> nn.Module:
        if len(spec.shape) != 3:
            raise ConfigError(
                f"generator 'broadcast' needs images (C, H, W); the data has shape {spec.shape}", "use mlp"
            )
        return _Decoder(spec.shape, spec.latent_dim, spec.classes() or 0, self.width, self.depth)


class _Decoder(nn.Module):
    """Latent (N, Z), and labels (N,) in a conditional run, to images (N, C, H, W) in [-1, 1]."""

    def __init__(self, shape: Shape, latent_dim: int, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        channels, rows, columns = shape
        self.num_classes = num_classes
        coordinates = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
        self.register_buffer("coordinates", torch.stack(coordinates), persistent=False)  # (2, H, W)
        self.coordinates: Tensor
        # The first layer is linear in latent and coordinates, so the latent's part is computed once for all pixels.
        self.of_latent = nn.Linear(latent_dim + num_classes, width)
        self.of_coordinates = nn.Conv2d(2, width, 1, bias=False)
        hidden = [layer for _ in range(depth - 1) for layer in (nn.LeakyReLU(0.2), nn.Conv2d(width, width, 1))]
        self.rest = nn.Sequential(*hidden, nn.LeakyReLU(0.2), nn.Conv2d(width, channels, 1), nn.Tanh())

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            one_hot = nn.functional.one_hot(labels, self.num_classes).to(latent.dtype)
            latent = torch.cat([latent, one_hot], dim=1)  # (N, Z + K)
        from_latent = self.of_latent(latent)[:, :, None, None]  # (N, width, 1, 1)
        from_coordinates = self.of_coordinates(self.coordinates[None])  # (1, width, H, W)
        images: Tensor = self.rest(from_latent + from_coordinates)  # (N, C, H, W)
        return images
