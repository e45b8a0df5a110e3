"""Real images to compare with: a part of a dataset, or files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Dataset, Mixture
from gancore.data.items import build_dataset, class_names, count_classes, known_labels, read_items
from gancore.errors import GancoreError
from gancore.utils.large import MOST_IN_MEMORY, empty
from gancore.utils.random import generator_for
from gancore.utils.sample_format import SampleFormat

_AT_ONCE = 1024
"""Images that are read at one time where not all fit into memory."""


@dataclass(frozen=True)
class ReferenceImages:
    """Real images with a name, and the `dataset` they are from, None if it is unknown."""

    name: str
    images: TorchDataset[Any]  # Any: an item is (sample, condition) or a sample alone
    dataset: Dataset | None = None

    @classmethod
    def of(cls, dataset: Dataset, root: Path | str) -> ReferenceImages:
        """Return the images of a dataset, whose files are below `root`."""
        return cls(dataset.name, build_dataset(dataset, Path(root)), dataset)

    @property
    def split(self) -> str | None:
        """The part of the dataset, None if the dataset has no parts."""
        return (
            None if self.dataset is None or self.dataset.part("train") is None else getattr(self.dataset, "split", None)
        )

    @property
    def num_classes(self) -> int | None:
        """The number of classes, None without labels."""
        return count_classes(self.images)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the labels, empty without labels."""
        return class_names(self.images) or ()

    @property
    def mixture(self) -> Mixture | None:
        """The distribution of the data, None if it is not known."""
        return getattr(self.images, "mixture", None)

    @property
    def scales(self) -> object:
        """The means and standard deviations that standardize the images, None if they are compared as they are."""
        return getattr(self.images, "scales", None)

    @property
    def value_range(self) -> object:
        """The range of float32 images, which is compared as 0..255, None if they have none."""
        return getattr(self.images, "value_range", None)

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]  # map-style, so it has a length

    def draw(self, limit: int, seed: int, stream: str) -> Tensor:
        """Return all images as they are stored (N, …), or `limit` random ones if there are more, in order.

        Those that are too large for memory are in a temporary file; see `utils.large`.
        """
        return self._read(self._drawn(limit, seed, stream))

    def _drawn(self, limit: int, seed: int, stream: str) -> Tensor | None:
        """Return the indices of the images that `draw` returns, None for all."""
        if len(self) <= limit:
            return None
        return torch.randperm(len(self), generator=generator_for(seed, stream))[:limit].sort().values

    def draw_labels(self, limit: int, seed: int, stream: str) -> Tensor | None:
        """Return the labels (N,) of the images that `draw` returns; None if they have no classes."""
        if self.num_classes is None:
            return None
        indices = self._drawn(limit, seed, stream)
        labels = known_labels(self.images)
        if labels is None:
            return read_items(self.images, indices)[1]
        return labels if indices is None else labels[indices]

    def to_plot(self, limit: int) -> Tensor | None:
        """Return the real samples that are plotted behind generated ones; None if they cannot be read."""
        try:
            return self.draw(limit, seed=0, stream="real")
        except GancoreError:
            return None

    def _read(self, indices: Tensor | None) -> Tensor:
        count = len(self) if indices is None else len(indices)
        first = read_items(self.images, torch.zeros(min(count, 1), dtype=torch.int64))[0]
        if count * first.nbytes <= MOST_IN_MEMORY:
            return read_items(self.images, indices)[0]
        numbers = torch.arange(count) if indices is None else indices
        images = empty((count, *first.shape[1:]), first.dtype)
        for chunk, places in zip(
            torch.split(numbers, _AT_ONCE), torch.split(torch.arange(count), _AT_ONCE), strict=True
        ):
            images[places[0] : places[-1] + 1] = read_items(self.images, chunk)[0]
        return images

    def draw_conditions(self, count: int, seed: int, stream: str) -> Tensor:
        """Return the conditions (N, …) of `count` items drawn with replacement: as frequent as in the data."""
        indices = torch.randint(len(self), (count,), generator=generator_for(seed, stream))
        labels = known_labels(self.images)
        return read_items(self.images, indices)[1] if labels is None else labels[indices]


def compared(images: Tensor, sample_format: SampleFormat) -> Tensor:
    """Return stored images (N, …) as metrics compare them; those that are too large for memory are in a file."""
    if images.nbytes <= MOST_IN_MEMORY:
        return sample_format.comparable(images)
    result = empty(tuple(images.shape), images.dtype)
    for part, chunk in zip(torch.split(result, _AT_ONCE), torch.split(images, _AT_ONCE), strict=True):
        part.copy_(sample_format.comparable(chunk))
    return result


def reference_of(dataset: Dataset) -> tuple[Dataset, bool]:
    """Return the dataset to compare models of `dataset` with, and whether it was held out from their training.

    It is the held-out part if `dataset` is the training part; else `dataset` itself.
    """
    held_out = dataset.part("test")
    if held_out is not None and held_out != dataset and dataset.part("train") == dataset:
        return held_out, True
    return dataset, False
