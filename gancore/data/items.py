"""Items of datasets: reading some or all of them, and checking that they keep the contract."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from operator import index
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from gancore.errors import DataError, blame
from gancore.utils.random import seeded

_CHUNK = 1024
"""Items that are read at once."""
EMPTY = "a dataset must hold at least one image; this one is empty"


def read_items(dataset: TorchDataset[Any], indices: Tensor | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images as they are stored and their labels (N,) int64, of all items or of some, on the CPU.

    What the dataset draws at random is drawn from the seed.
    Raises DataError for items that keep no contract, and for no items at all.
    """
    if _is_two_tensors(dataset):
        images, labels = dataset.tensors if indices is None else (tensor[indices] for tensor in dataset.tensors)
    else:
        with blame("dataset"), seeded(seed):
            chosen = range(len(cast(Sized, dataset))) if indices is None else indices.tolist()
            chunks = (chosen[start : start + _CHUNK] for start in range(0, len(chosen), _CHUNK))
            parts = [collate(items_of(dataset, chunk)) for chunk in chunks]
            if not parts:
                raise DataError(EMPTY)
            images, labels = (torch.cat(list(column)) for column in zip(*parts, strict=True))
    check_items(images)
    return images, labels.long()


def count_classes(dataset: TorchDataset[Any]) -> int | None:
    """The number of a dataset's `classes`, None without them. Raises DataError for what is no list of names."""
    classes = getattr(dataset, "classes", None)
    if classes is None:
        return None
    if isinstance(classes, str) or not isinstance(classes, Sized):
        raise DataError(
            "`classes` of a dataset must be the names of its classes, in the order of their labels; received "
            f"{classes!r}",
            "a tuple of names; or leave it out",
        )
    return len(classes)


def _is_two_tensors(dataset: TorchDataset[Any]) -> TypeGuard[TensorDataset]:
    """Whether the items are those of images and integer labels that lie in memory, and nothing is done to them."""
    return (
        isinstance(dataset, TensorDataset)
        and type(dataset).__getitem__ is TensorDataset.__getitem__
        and len(dataset.tensors) == 2
        and not dataset.tensors[1].is_floating_point()
        and dataset.tensors[1].ndim == 1
    )


def pair(item: object) -> tuple[Tensor, int]:
    image, label = (*item, 0)[:2] if isinstance(item, tuple | list) and len(item) in (1, 2) else (item, 0)
    if not isinstance(image, torch.Tensor):
        raise DataError(
            f"an item of a dataset must be a tensor, or a tensor and a label; received {type(image).__name__}",
            "convert pictures with torchvision.transforms.v2.PILToTensor",
        )
    try:
        return image, index(label)
    except TypeError:
        raise DataError(f"a label must be an int; received {label!r}") from None


def collate(items: list[object]) -> tuple[Tensor, Tensor]:
    pairs = [pair(item) for item in items]
    shapes = {tuple(image.shape) for image, _ in pairs}
    if len(shapes) > 1:
        raise DataError(f"all images of a dataset must have one shape; received {sorted(shapes)}", "resize them")
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def check_labels(labels: Tensor, num_classes: int | None) -> None:
    """Raises DataError unless labels (N,) lie in 0..K-1, where the number of classes K is known."""
    if num_classes is not None and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(
            f"labels must lie in 0..{num_classes - 1}, one for each of the dataset's classes; "
            f"received {int(labels.min())}..{int(labels.max())}"
        )


def check_items(images: Tensor) -> None:
    """Raises DataError unless images (N, C, H, W) are uint8, or vectors (N, F) float32 and finite."""
    received = f"received {str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape[1:])}"
    if images.ndim == 4:
        if images.dtype != torch.uint8:
            raise DataError(
                f"images (C, H, W) must be uint8 in 0..255; {received}", "leave them as PILToTensor gives them"
            )
    elif images.ndim != 2 or images.dtype != torch.float32:
        raise DataError(f"data must be uint8 images (C, H, W) or float32 vectors (F,); {received}")
    elif not images.isfinite().all():
        number = int((~images.isfinite()).any(dim=1).nonzero()[0])
        values = str(images[number, :8].tolist()).replace("]", ", …]" if images.shape[1] > 8 else "]")
        raise DataError(f"vectors must be finite; number {number} is {values}", "look at what made them")
    if 0 in images.shape:
        raise DataError(f"an image must have at least one pixel; {received}")


def items_of(dataset: TorchDataset[Any], indices: Sequence[int]) -> list[Any]:  # Any: a dataset's items
    """The items of these indices, at once where the dataset knows how."""
    try:
        many = getattr(dataset, "__getitems__", None)
        return list(many(list(indices)) if many else [dataset[index] for index in indices])
    except StopIteration as error:  # who iterates over batches would take it for their end
        raise RuntimeError("StopIteration was raised where an item was asked for") from error
