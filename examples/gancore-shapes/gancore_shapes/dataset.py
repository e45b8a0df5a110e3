"""A dataset that draws its images, so it needs no download."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch.utils.data import TensorDataset

from gancore import Dataset, EvaluationProtocol


class Shapes(Dataset):
    """White discs, squares and crosses of random size and position, a simpler dSprites, Matthey et al. 2017."""

    name = "shapes"
    evaluation = EvaluationProtocol(metrics=("sliced-wasserstein", "kid-spectrum"), samples=1000)
    size: int = Field(default=16, ge=4, le=64, description="height and width in pixels")
    count: int = Field(default=3000, ge=3, le=10_000, description="number of images")
    split: Literal["train", "test"] = Field(default="train", description="images to train on, or held-out images")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="random seed of sizes and positions")

    def build(self, root: Path) -> TensorDataset:
        rng = torch.Generator().manual_seed(2 * self.seed + (self.split == "test"))
        radius = 0.15 + 0.15 * torch.rand(self.count, 1, 1, generator=rng)  # the image is 1 high and 1 wide
        center = radius + (1 - 2 * radius) * torch.rand(self.count, 1, 2, generator=rng)
        pixels = (torch.arange(self.size) + 0.5) / self.size
        distance = (pixels.view(1, -1, 1) - center).abs()  # (N, size, 2)
        down, across = distance[:, :, None, 0], distance[:, None, :, 1]  # (N, size, 1), (N, 1, size)
        far, near = torch.maximum(down, across), torch.minimum(down, across)  # (N, size, size)
        # A shape covers the pixels whose distance from its center, in the norm of the shape, is less than the radius.
        labels = torch.arange(self.count) % 3
        label = labels.view(-1, 1, 1)
        norm = torch.where(label == 0, torch.hypot(far, near), torch.where(label == 1, far, far.maximum(3 * near)))
        covered = (0.5 + self.size * (radius - norm)).clamp(0, 1)
        return _LabeledShapes((255 * covered).round().to(torch.uint8).unsqueeze(1), labels)

    def part(self, split: Literal["train", "test"]) -> Dataset:
        return self.model_copy(update={"split": split})


class _LabeledShapes(TensorDataset):
    """Items (image, label): uint8 (1, H, W), and an index of `classes`."""

    classes = ("disc", "square", "cross")
    mirrors = True
