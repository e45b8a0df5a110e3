"""Datasets that draw their items: spots with a continuous condition, and series."""

import math
from pathlib import Path

import torch
from pydantic import Field
from torch.utils.data import TensorDataset

from gancore import Dataset


class Spots(Dataset):
    """A bright spot on a circle around the middle; the condition (2,) is cosine and sine of its angle."""

    name = "spots"
    size: int = Field(default=8, ge=4, le=64, description="height and width in pixels")
    count: int = Field(default=2048, ge=1, le=100_000, description="number of images")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="random seed of the angles")

    def build(self, root: Path) -> TensorDataset:
        angles = 2 * math.pi * torch.rand(self.count, generator=torch.Generator().manual_seed(self.seed))
        places = torch.stack([angles.cos(), angles.sin()], dim=1)  # (N, 2): x to the right, y down
        side = torch.linspace(-1, 1, self.size)
        pixels = torch.stack(torch.meshgrid(side, side, indexing="xy"))  # (2, H, W)
        distances = (pixels - 0.6 * places[:, :, None, None]).square().sum(dim=1, keepdim=True)
        return TensorDataset((255 * (-distances / 0.08).exp()).to(torch.uint8), places)


class Waves(Dataset):
    """Series (2, length) of floats: three times sine and cosine, of one to two periods and any phase."""

    name = "waves"
    length: int = Field(default=32, ge=2, le=4096, description="values of each channel")
    count: int = Field(default=2048, ge=1, le=100_000, description="number of series")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="random seed of periods and phases")

    def build(self, root: Path) -> TensorDataset:
        rng = torch.Generator().manual_seed(self.seed)
        phase, more = torch.rand(2, self.count, 1, generator=rng)
        angles = 2 * math.pi * (phase + (1 + more) * torch.linspace(0, 1, self.length))
        return TensorDataset(3 * torch.stack([angles.sin(), angles.cos()], dim=1))
