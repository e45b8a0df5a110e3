"""Datasets and their items: build and read them, and check that they keep the contract (see `contracts.Dataset`)."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from operator import index
from pathlib import Path
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from gancore.contracts import Dataset
from gancore.errors import DataError, blame
from gancore.utils.random import seeded

_ITEMS_PER_READ = 1024
EMPTY = "a dataset must hold at least one image; this one is empty"


def build_dataset(dataset: Dataset, root: Path, seed: int = 0) -> TorchDataset[Any]:  # Any: the dataset's items
    """Build the dataset from its files below `root`, random numbers from `seed`. Raise PluginError when it fails."""
    with seeded(seed), blame(f"dataset {dataset.name!r}", "in build()"):
        return dataset.build(root)


def read_items(dataset: TorchDataset[Any], indices: Tensor | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return stored images (N, …) and labels (N,) int64 of all items, or of those at `indices` (N,), on the CPU.

    Random numbers that the dataset draws come from `seed`.
    Raises DataError for items that break the contract, and when there are no items.
    """
    if _is_in_memory(dataset):
        images, *rest = (tensor if indices is None else tensor[indices] for tensor in dataset.tensors)
        labels = rest[0] if rest else torch.zeros(len(images))
    else:
        with blame("dataset"), seeded(seed):
            numbers = range(len(cast(Sized, dataset))) if indices is None else indices.tolist()
            chunks = (numbers[start : start + _ITEMS_PER_READ] for start in range(0, len(numbers), _ITEMS_PER_READ))
            parts = [collate(get_items(dataset, chunk)) for chunk in chunks]
            if not parts:
                raise DataError(EMPTY)
            images, labels = (torch.cat(list(column)) for column in zip(*parts, strict=True))
    check_items(images)
    return images, labels.long()


def get_items(dataset: TorchDataset[Any], indices: Sequence[int]) -> list[Any]:  # Any: a dataset's items
    """Return the items at `indices`, by one call of `__getitems__` if the dataset has it."""
    try:
        get_many = getattr(dataset, "__getitems__", None)
        return list(get_many(list(indices)) if get_many else [dataset[index] for index in indices])
    except StopIteration as error:  # a loop over batches would take it for the end of the data
        raise RuntimeError("StopIteration was raised while an item was read") from error


def split_item(item: object) -> tuple[Tensor, int]:
    """Return the image and the label of an item, which is a tensor or a (tensor, label) pair; without a label, 0."""
    image, label = (*item, 0)[:2] if isinstance(item, tuple | list) and len(item) in (1, 2) else (item, 0)
    if not isinstance(image, torch.Tensor):
        raise DataError(
            f"an item of a dataset must be a tensor or a (tensor, label) pair; received {type(image).__name__}",
            "convert pictures with torchvision.transforms.v2.PILToTensor",
        )
    try:
        return image, index(label)
    except TypeError:
        raise DataError(f"a label must be an int; received {label!r}") from None


def collate(items: list[object]) -> tuple[Tensor, Tensor]:
    """Return stacked images (N, …) and labels (N,). Raise DataError for items of several shapes."""
    pairs = [split_item(item) for item in items]
    shapes = {tuple(image.shape) for image, _ in pairs}
    if len(shapes) > 1:
        raise DataError(f"all images of a dataset must have one shape; received {sorted(shapes)}", "resize them")
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def count_classes(dataset: TorchDataset[Any]) -> int | None:
    """Return the number of the dataset's `classes`, None without them. Raise DataError if they are no list of names."""
    classes = getattr(dataset, "classes", None)
    if classes is None:
        return None
    if isinstance(classes, str) or not isinstance(classes, Sized):
        raise DataError(
            f"`classes` of a dataset must be a tuple of class names, in the order of the labels; received {classes!r}",
            "set it to a tuple of names, or leave it out",
        )
    return len(classes)


def check_labels(labels: Tensor, num_classes: int | None) -> None:
    """Raise DataError unless labels (N,) are in 0..K-1, where the number of classes K is known."""
    if num_classes is not None and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(
            f"labels must be in 0..{num_classes - 1}, for the dataset's {num_classes} classes; "
            f"received {int(labels.min())}..{int(labels.max())}"
        )


def check_items(images: Tensor) -> None:
    """Raise DataError unless images (N, C, H, W) are uint8, or vectors (N, F) float32 and finite."""
    received = f"received {str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape[1:])}"
    if images.ndim == 4:
        if images.dtype != torch.uint8:
            raise DataError(f"images (C, H, W) must be uint8 in 0..255; {received}", "do not scale them to floats")
    elif images.ndim != 2 or images.dtype != torch.float32:
        raise DataError(f"data must be uint8 images (C, H, W) or float32 vectors (F,); {received}")
    elif not images.isfinite().all():
        number = int((~images.isfinite()).any(dim=1).nonzero()[0])
        values = str(images[number, :8].tolist()).replace("]", ", …]" if images.shape[1] > 8 else "]")
        raise DataError(f"vectors must be finite; number {number} is {values}", "check the code that computed them")
    if 0 in images.shape:
        raise DataError(f"an image must have at least one pixel; {received}")


def _is_in_memory(dataset: TorchDataset[Any]) -> TypeGuard[TensorDataset]:
    """Return whether the dataset is a plain TensorDataset of images, and perhaps integer labels."""
    return (
        isinstance(dataset, TensorDataset)
        and type(dataset).__getitem__ is TensorDataset.__getitem__
        and len(dataset.tensors) <= 2
        and all(labels.ndim == 1 and not labels.is_floating_point() for labels in dataset.tensors[1:])
    )
