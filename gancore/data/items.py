"""Datasets and their items: build and read them, and check that they keep the contract (see `contracts.Dataset`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set, Sized
from contextlib import suppress
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Dataset, Shape
from gancore.errors import DataError, blame
from gancore.utils.random import seeded

_ITEMS_PER_READ = 1024
EMPTY = "a dataset must hold at least one image; this one is empty"


def build_dataset(dataset: Dataset, root: Path, seed: int = 0) -> TorchDataset[Any]:  # Any: the dataset's items
    """Build the dataset from its files below `root`, random numbers from `seed`. Raise PluginError when it fails."""
    with seeded(seed), blame(f"dataset {dataset.name!r}", "in build()"):
        return dataset.build(root)


def read_items(dataset: TorchDataset[Any], indices: Tensor | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return stored samples (N, …) and their conditions of all items, or of those at `indices` (N,), on the CPU.

    Conditions are labels (N,) int64, or tensors (N, …) uint8 or float32; see `contracts.Dataset`. Random numbers that
    the dataset draws come from `seed`.
    Raises DataError for items that break the contract, and when there are no items.
    """
    if _is_in_memory(dataset):
        samples, *rest = (tensor if indices is None else tensor[indices] for tensor in dataset.tensors)
        conditions = rest[0] if rest else torch.zeros(len(samples), dtype=torch.int64)
        conditions = conditions.float().unsqueeze(1) if _is_number_per_item(conditions) else conditions
    else:
        with blame("dataset"), seeded(seed):
            numbers = range(len(cast(Sized, dataset))) if indices is None else indices.tolist()
            chunks = (numbers[start : start + _ITEMS_PER_READ] for start in range(0, len(numbers), _ITEMS_PER_READ))
            parts = [collate(get_items(dataset, chunk)) for chunk in chunks]
            if not parts:
                raise DataError(EMPTY)
            samples, conditions = (torch.cat(list(column)) for column in zip(*parts, strict=True))
    check_items(samples)
    check_conditions(conditions)
    return samples, conditions.long() if conditions.ndim == 1 else conditions


def get_items(dataset: TorchDataset[Any], indices: Sequence[int]) -> list[Any]:  # Any: a dataset's items
    """Return the items at `indices`, by one call of `__getitems__` if the dataset has it."""
    try:
        get_many = getattr(dataset, "__getitems__", None)
        return list(get_many(list(indices)) if get_many else [dataset[index] for index in indices])
    except StopIteration as error:  # a loop over batches would take it for the end of the data
        raise RuntimeError("StopIteration was raised while an item was read") from error


def check_dataset(dataset: object) -> None:
    """Raise DataError for an object that is not a map-style dataset."""
    kind = type(dataset)
    if isinstance(dataset, DataLoader):
        raise DataError("a dataset must be map-style; received a DataLoader", "pass its dataset: loader.dataset")
    if isinstance(dataset, type):
        raise DataError(
            f"a dataset must be an instance; received the class {dataset.__name__}",
            f"make one: {dataset.__name__}(...)",
        )
    if isinstance(dataset, str | Path | Dataset):
        name = dataset.name if isinstance(dataset, Dataset) else dataset
        raise DataError(
            f"a dataset must be map-style, with __len__ and __getitem__; received {kind.__name__} {str(name)!r}",
            'build it first: gancore.find("dataset", NAME).build(folder)',
        )
    if not (hasattr(kind, "__len__") and hasattr(kind, "__getitem__")):
        raise DataError(
            f"a dataset must be map-style, with __len__ and __getitem__; received {kind.__name__}",
            "read the items into a torch.utils.data.TensorDataset, or write a class with both methods",
        )


def _how_to_convert(sample: object) -> str:
    """Return how to make a tensor of what a dataset gives as a sample."""
    if isinstance(sample, np.ndarray):
        order = ".permute(2, 0, 1), to (C, H, W)" if is_channels_last(sample.shape) else ""
        return f"convert arrays with torch.from_numpy(sample){order}"
    if isinstance(sample, dict):
        return "return a tensor, or the pair (tensor, condition)"
    return "convert pictures with torchvision.transforms.v2.PILToTensor, and arrays with torch.from_numpy"


def is_channels_last(shape: Shape) -> bool:
    """Return whether a shape looks like (H, W, C) of an image."""
    return len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4)


def split_item(item: object) -> tuple[Tensor, int | Tensor]:
    """Return the sample and the condition of an item: a tensor, or a (tensor, condition) pair; without one, label 0.

    A condition is a label, or a tensor uint8 or float32; a float becomes a tensor (1,).
    """
    sample, condition = (*item, 0)[:2] if isinstance(item, tuple | list) and len(item) in (1, 2) else (item, 0)
    if not isinstance(sample, torch.Tensor):
        raise DataError(
            f"an item of a dataset must be a tensor or a (tensor, condition) pair; received {type(sample).__name__}",
            _how_to_convert(sample),
        )
    if isinstance(condition, Tensor) and (condition.ndim or condition.is_floating_point()):
        return sample, condition if condition.ndim else condition.float().unsqueeze(0)
    if isinstance(condition, float | np.floating):
        return sample, torch.tensor([float(condition)])
    try:
        return sample, index(condition)
    except TypeError:
        is_label = isinstance(condition, np.ndarray) and condition.size == 1 and condition.dtype.kind in "iu"
        raise DataError(
            f"the condition of an item must be an int, a float or a tensor; received {condition!r}",
            "convert a label with label.item()" if is_label else "convert arrays with torch.from_numpy",
        ) from None


def collate(items: list[object]) -> tuple[Tensor, Tensor]:
    """Return stacked samples (N, …) and conditions (N, …). Raise DataError for items of several shapes."""
    pairs = [split_item(item) for item in items]
    shapes = {tuple(sample.shape) for sample, _ in pairs}
    if len(shapes) > 1:
        raise DataError(f"all samples of a dataset must have one shape; received {sorted(shapes)}", "resize them")
    tensors = [condition for _, condition in pairs if isinstance(condition, Tensor)]
    shapes = {tuple(condition.shape) for condition in tensors}
    if len(shapes) > 1 or len(tensors) not in (0, len(pairs)):
        received = sorted(shapes) if len(shapes) > 1 else "tensors and labels"
        raise DataError(f"all conditions of a dataset must have one shape; received {received}")
    for what, items_of in (("samples", [sample for sample, _ in pairs]), ("conditions", tensors)):
        if len(types := {tensor.dtype for tensor in items_of}) > 1:  # torch would convert them to one
            raise DataError(f"all {what} of a dataset must have one type; received {_names_of(types)}", "convert them")
    # Detached, since a worker process cannot send tensors with a graph.
    samples = torch.stack([sample for sample, _ in pairs]).detach()
    labels = [condition for _, condition in pairs]
    return samples, torch.stack(tensors).detach() if tensors else torch.tensor(labels, dtype=torch.int64)


def count_classes(dataset: TorchDataset[Any]) -> int | None:
    """Return the number of the dataset's `classes`, None without them. Raise DataError if they are no list of names."""
    classes = getattr(dataset, "classes", None)
    if classes is None:
        return None
    if isinstance(classes, str | Mapping | Set) or not isinstance(classes, Sized):
        raise DataError(
            f"`classes` of a dataset must be a tuple of class names, in the order of the labels; received {classes!r}",
            "set it to a tuple of names, or leave it out",
        )
    return len(classes)


def class_names(dataset: TorchDataset[Any]) -> tuple[str, ...] | None:
    """Return the names of the dataset's classes, None without them. Raise DataError as `count_classes` does."""
    return None if count_classes(dataset) is None else tuple(map(str, getattr(dataset, "classes", ())))


def columns_of(dataset: TorchDataset[Any], shape: Shape) -> tuple[str, ...]:
    """Return the names of the values of a vector, empty without names. Raise DataError if they do not fit the shape."""
    columns = getattr(dataset, "columns", None)
    if columns is None:
        return ()
    names = list(columns) if isinstance(columns, Sequence) and not isinstance(columns, str) else []
    if not all(isinstance(name, str) for name in names) or shape != (len(names),):
        raise DataError(
            f"`columns` of a dataset must be a name for each value of its vectors; received {columns!r} for samples of "
            f"shape {shape}",
            "set it to a tuple of names, or leave it out",
        )
    return tuple(names)


def known_labels(dataset: TorchDataset[Any]) -> Tensor | None:
    """Return the labels (N,) int64 of all items of a dataset with classes, if no item must be read for them.

    They are in a plain TensorDataset, or in the attribute `labels` if that is one number in 0..K-1 for each item.
    """
    num_classes = count_classes(dataset)
    if num_classes is None:
        return None
    with suppress(Exception):  # an attribute of this name may have another meaning, or fail
        given = dataset.tensors[1] if _is_in_memory(dataset) else getattr(dataset, "labels", None)
        labels = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
        is_number_per_item = labels.shape == (len(cast(Sized, dataset)),) and labels.dtype.kind in "iu"
        if is_number_per_item and labels.min() >= 0 and labels.max() < num_classes:
            return torch.from_numpy(labels.astype(np.int64))
    return None


def check_labels(labels: Tensor, num_classes: int | None) -> None:
    """Raise DataError unless labels (N,) are in 0..K-1, where the number of classes K is known."""
    if num_classes is None:
        return
    if labels.ndim > 1:
        raise DataError(
            f"a dataset with `classes` must have an int as the condition of each item; received tensors of shape "
            f"{tuple(labels.shape[1:])}",
            "return the number of the class, such as label.item(), or leave `classes` out",
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(
            f"labels must be in 0..{num_classes - 1}, for the dataset's {num_classes} classes; "
            f"received {int(labels.min())}..{int(labels.max())}"
        )


def check_items(samples: Tensor) -> None:
    """Raise DataError unless samples (N, …) are uint8, or float32 and finite, and not empty."""
    received = f"received {_describe(samples)}"
    if samples.dtype not in (torch.uint8, torch.float32) or samples.ndim < 2:
        raise DataError(
            f"samples must be uint8 in 0..255 or float32, with at least one dimension; {received}",
            _how_to_cast(samples),
        )
    if 0 in samples.shape:
        raise DataError(f"a sample must have at least one value; {received}")
    _check_finite("samples", samples)


def _how_to_cast(samples: Tensor) -> str:
    if samples.ndim < 2:
        return "give each sample a dimension, with .unsqueeze(0)"
    return "convert them with .float()" if samples.is_floating_point() else "convert pixels in 0..255 with .byte()"


def check_conditions(conditions: Tensor) -> None:
    """Raise DataError unless conditions are labels (N,), or tensors (N, …) that are uint8, or float32 and finite."""
    if conditions.ndim == 1:
        return
    if conditions.dtype not in (torch.uint8, torch.float32) or 0 in conditions.shape:
        raise DataError(
            f"tensors as conditions must be uint8 in 0..255 or float32; received {_describe(conditions)}",
            "convert them, for example with .float()",
        )
    _check_finite("conditions", conditions)


@dataclass(frozen=True)
class ItemForm:
    """What all items of a dataset have in common: the type and shape of the first one, and the number of classes.

    `samples` (1, …) and `conditions` (1, …) are of the first item.
    """

    samples: Tensor
    conditions: Tensor
    num_classes: int | None

    def check(self, samples: Tensor, conditions: Tensor) -> None:
        """Raise DataError for items (N, …) that break the contract, or have another form than the first."""
        check_items(samples)
        self.check_read(samples, conditions)
        check_conditions(conditions)

    def check_read(self, samples: Tensor, conditions: Tensor) -> None:
        """Raise DataError as `check`, for what `read_items` has returned."""
        check_labels(conditions, self.num_classes)
        _check_form("samples", samples, self.samples)
        _check_form("conditions", conditions, self.conditions)


def _check_form(what: str, values: Tensor, first: Tensor) -> None:
    if values.dtype != first.dtype or values.shape[1:] != first.shape[1:]:
        raise DataError(
            f"all {what} of a dataset must have the type and the shape of the first, {_describe(first)}; "
            f"received {_describe(values)}",
            "convert them, or resize them",
        )


def _describe(samples: Tensor) -> str:
    return f"{_name_of(samples.dtype)} of shape {tuple(samples.shape[1:])}"


def _names_of(types: Iterable[torch.dtype]) -> str:
    return ", ".join(sorted(map(_name_of, types)))


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_finite(what: str, values: Tensor) -> None:
    if not values.is_floating_point() or values.isfinite().all():
        return
    number = int((~values.isfinite()).flatten(1).any(dim=1).nonzero()[0])
    first = values[number].flatten()
    shown = str(first[:8].tolist()).replace("]", ", …]" if len(first) > 8 else "]")
    raise DataError(f"{what} must be finite; number {number} is {shown}", "check the code that computed them")


def _is_number_per_item(conditions: Tensor) -> bool:
    return conditions.ndim == 1 and conditions.is_floating_point()


def _is_in_memory(dataset: TorchDataset[Any]) -> TypeGuard[TensorDataset]:
    """Return whether the dataset is a plain TensorDataset of samples, and perhaps conditions."""
    return (
        isinstance(dataset, TensorDataset)
        and type(dataset).__getitem__ is TensorDataset.__getitem__
        and len(dataset.tensors) <= 2
    )
