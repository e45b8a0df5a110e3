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
    """Run the dataset's slow first-time work, such as decoding pictures; yield the share done, in 0..1.

    Raises PluginError when it fails.
    """
    with blame(f"dataset {dataset.name!r}"):
        yield from dataset.prepare(root)


def build_dataset(dataset: Dataset, root: Path, seed: int = 0) -> TorchDataset[Any]:  # Any: the dataset's items
    """Return the built dataset, whose files are below `root`. Random numbers that `build` draws come from `seed`.

    Raises PluginError when it fails.
    """
    with seeded(seed), blame(f"dataset {dataset.name!r}", "in build()"):
        return dataset.build(root)
