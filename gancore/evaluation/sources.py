"""Real images to compare with: a dataset's own parts, or anything that can be indexed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Dataset, Mixture
from gancore.data.build import build_dataset
from gancore.data.items import count_classes, read_items
from gancore.utils.random import generator_for


class Plain(TorchDataset[Tensor]):
    """Images (N, …) that lie in memory, as a dataset without labels."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


@dataclass(frozen=True)
class ReferenceImages:
    """Real images by name; `dataset` is None for files that belong to no dataset."""

    name: str
    images: TorchDataset[Any]  # Any: an item is (image, label) or an image alone
    dataset: Dataset | None = None

    @classmethod
    def of(cls, dataset: Dataset, root: Path) -> ReferenceImages:
        """A dataset, opened: its files lie below `root`."""
        return cls(dataset.name, build_dataset(dataset, root), dataset)

    @property
    def split(self) -> str | None:
        """Which part of the dataset it is, where that has parts."""
        return getattr(self.dataset, "split", None)

    @property
    def num_classes(self) -> int | None:
        """The number of classes, None without labels."""
        return count_classes(self.images)

    @property
    def mixture(self) -> Mixture | None:
        """How the data is distributed, where that is known."""
        return getattr(self.images, "mixture", None)

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]  # map-style, so it has a length

    def draw(self, most: int, seed: int, stream: str) -> Tensor:
        """All images as they are stored (N, …), in order; of more than `most`, as many at random."""
        if len(self) <= most:
            return self._items(None)
        chosen = torch.randperm(len(self), generator=generator_for(seed, stream))[:most]
        return self._items(chosen.sort().values)

    def draw_labels(self, count: int, seed: int, stream: str) -> Tensor:
        """Labels (N,) of so many images at random, some perhaps twice: classes are as frequent as in the data."""
        chosen = torch.randint(len(self), (count,), generator=generator_for(seed, stream))
        return read_items(self.images, chosen)[1]

    def _items(self, chosen: Tensor | None) -> Tensor:
        if isinstance(self.images, Plain):
            return self.images.images if chosen is None else self.images.images[chosen]
        return read_items(self.images, chosen)[0]


def reference_of(dataset: Dataset) -> tuple[Dataset, bool]:
    """What models of this data are compared with, and whether that was held out from their training.

    It is the held-out part where the data is the training part; else the data itself.
    """
    held_out = dataset.part("test")
    if held_out is not None and held_out != dataset and dataset.part("train") == dataset:
        return held_out, True
    return dataset, False
