"""Building a dataset from its component."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Dataset
from gancore.errors import blame
from gancore.utils.random import seeded


def prepare_dataset(dataset: Dataset, root: Path) -> Iterator[float]:
    """Run the dataset's slow first-time work; yield the share done, in 0..1. Raise PluginError when it fails."""
    with blame(f"dataset {dataset.name!r}"):
        yield from dataset.prepare(root)


def build_dataset(dataset: Dataset, root: Path, seed: int = 0) -> TorchDataset[Any]:  # Any: the dataset's items
    """Build the dataset from its files below `root`, random numbers from `seed`. Raise PluginError when it fails."""
    with seeded(seed), blame(f"dataset {dataset.name!r}", "in build()"):
        return dataset.build(root)
