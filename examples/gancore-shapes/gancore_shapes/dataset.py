"""The data: what is drawn needs no download."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch.utils.data import TensorDataset

from gancore import Dataset, EvaluationProtocol


class Shapes(Dataset):
    """White discs, squares and crosses of any size and place; plainer than dSprites, Matthey et al. 2017."""

    name = "shapes"
    evaluation = EvaluationProtocol(metrics=("sliced-wasserstein", "kid-spectrum"), samples=1000)
    size: int = Field(default=16, ge=4, le=64, description="height and width in pixels")
    count: int = Field(default=3000, ge=3, le=10_000, description="images to train on, or to hold out")
    split: Literal["train", "test"] = Field(default="train", description="images to train on, or held out from them")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="of sizes and places")

    def build(self, root: Path) -> TensorDataset:
        dice = torch.Generator().manual_seed(2 * self.seed + (self.split == "test"))
        radius = 0.15 + 0.15 * torch.rand(self.count, 1, 1, generator=dice)  # the image is 1 high and 1 wide
        center = radius + (1 - 2 * radius) * torch.rand(self.count, 1, 2, generator=dice)
        pixels = (torch.arange(self.size) + 0.5) / self.size
        distance = (pixels.view(1, -1, 1) - center).abs()  # (N, size, 2)
        down, across = distance[:, :, None, 0], distance[:, None, :, 1]
        far, near = torch.maximum(down, across), torch.minimum(down, across)
        # Each shape is where a distance of its own from the center is less than the radius.
        labels = torch.arange(self.count) % 3
        which = labels.view(-1, 1, 1)
        reach = torch.where(which == 0, torch.hypot(far, near), torch.where(which == 1, far, far.maximum(3 * near)))
        covered = (0.5 + self.size * (radius - reach)).clamp(0, 1)
        return _Drawn((255 * covered).round().to(torch.uint8).unsqueeze(1), labels)

    def part(self, split: Literal["train", "test"]) -> Dataset:
        return self.model_copy(update={"split": split})


class _Drawn(TensorDataset):
    """Items (image, label): uint8 (1, H, W), and a place in `classes`."""

    classes = ("disc", "square", "cross")
    mirrors = True
