"""Batches of real images, in an order that is a pure function of seed and epoch.

The position in the data is therefore one integer, the number of images seen; a resumed run continues from it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sized
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from gancore.contracts import Condition, Shape, Spec
from gancore.data.choose_workers import WorkersChoice, WorkersChooser, have_moved, places_in_open_files
from gancore.data.examples import chosen_items
from gancore.data.items import (
    EMPTY,
    ItemForm,
    check_dataset,
    check_items,
    class_names,
    collate,
    columns_of,
    count_classes,
    known_labels,
    read_items,
)
from gancore.data.loader import Loader, Reader, Request
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import ConfigError, DataError, blame
from gancore.utils.memory import installed_memory
from gancore.utils.random import derive_seed, generator_for, seeded
from gancore.utils.sample_format import UINT8, condition_to_network, format_of

_FINGERPRINT_ITEMS = 256
_BYTES_PER_READ = 1 << 26
_MAX_MEMORY_SHARE = 0.25
"""With `data="auto"`, a dataset is kept on the device if it takes at most this share of the device's memory."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's part of a batch: real images (N, *shape) and their condition, both as networks see them.

    `images` are float32; `condition` is labels (N,) int64, or tensors (N, …) float32, see `contracts.Condition`; None
    where it was left out. `total` is the number of images of the whole batch over all ranks; with one rank it is N.
    """

    images: Tensor
    condition: Tensor | None
    total: int


def epoch_order(seed: int, epoch: int, size: int) -> Tensor:
    """Return the permutation (size,) of an epoch, the same on every device."""
    return torch.randperm(size, generator=generator_for(seed, "order", epoch))


class Feed:
    """Endless batches of one dataset. The last batch of an epoch may be shorter than the others.

    `shape` is that of a sample, `format` how samples are stored, `columns` the names of the values of a vector, empty
    without names; `condition` is what the dataset offers as a condition: the number of its `classes`, the shape of its
    tensors, or None. With several `ranks`, `batch_size` counts the images
    of all ranks, and `batches` yields this rank's part.
    Raises DataError for a dataset that is empty or smaller than a batch, for a last batch with fewer images than
    ranks, and for items that break the contract (see `contracts.Dataset`).
    """

    def __init__(  # the keywords are settings of the run
        self,
        dataset: TorchDataset[Any],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data: str = "auto",
        workers: int | Literal["auto"] = 0,
        ranks: Ranks = SINGLE_RANK,
    ) -> None:
        check_dataset(dataset)
        with blame("dataset"):
            self.size = len(cast(Sized, dataset))
        if self.size == 0:
            raise DataError(EMPTY)
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self._seed, self._workers, self._ranks = seed, workers, ranks
        self._chooser: WorkersChooser | None = None
        items_seed = derive_seed(seed, "items")
        with blame("dataset"), seeded(items_seed):
            first, about = (column.detach() for column in collate([dataset[0]]))  # (1, …) each
        check_items(first)
        self.shape: Shape = tuple(first.shape[1:])
        self.format = format_of(dataset, first[0])
        self.columns = columns_of(dataset, self.shape)
        self._num_classes = count_classes(dataset)
        self.condition: Condition | None = self._num_classes
        self._form = ItemForm(first, about, self._num_classes)
        if about.ndim > 1 and self._num_classes is None:
            self.condition = tuple(about.shape[1:])
        self._form.check(first, about)
        self._on_device: tuple[Tensor, Tensor] | None = None
        self.item_bytes = first.nbytes + about.nbytes
        fits = self.item_bytes * self.size <= _MAX_MEMORY_SHARE * _memory(device, ranks)
        if data == "device" or (data == "auto" and fits):
            images, conditions = read_items(dataset, seed=items_seed)
            self._form.check_read(images, conditions)
            self._on_device = images.to(device), conditions.to(device)
        if self.size < batch_size:
            raise DataError(
                f"batch_size {batch_size} is larger than the dataset ({self.size} images)",
                f"use --batch-size {self.size} or less, or a larger dataset",
            )
        if self.smallest_part == 0:
            raise DataError(
                f"every batch needs at least one image per process; with {self.size} images in batches of "
                f"{batch_size}, the last batch has {self.size % batch_size or batch_size} for {ranks.size} processes",
                "use fewer processes, or another --batch-size",
            )

    @property
    def smallest_part(self) -> int:
        """The number of images in the smallest part that a rank gets of any batch."""
        return (self.size % self.batch_size or self.batch_size) // self._ranks.size

    def check_rest(self, images_seen: int) -> None:
        """Raise DataError if the epoch in which `images_seen` images were seen ends with too few images for all ranks.

        Its last batch is another one than that of other epochs where the batch size has changed.
        """
        rest = (self.size - images_seen % self.size) % self.batch_size
        if 0 < rest < self._ranks.size:
            raise DataError(
                f"every batch needs at least one image per process; in this epoch batches of {self.batch_size} leave a "
                f"last one of {rest} for {self._ranks.size} processes",
                "resume with another batch_size",
            )

    def batch_size_at(self, images_seen: int) -> int:
        """Return the number of images, over all ranks, of the batch that begins after `images_seen` images."""
        return min(self.batch_size, self.size - images_seen % self.size)

    def images_after(self, images_seen: int, batches: int) -> int:
        """Return the number of images of the run after `batches` more; the last batch of an epoch may be short."""
        to_end = self.size - images_seen % self.size
        left, per_epoch = -(-to_end // self.batch_size), -(-self.size // self.batch_size)
        if batches < left:
            return images_seen + batches * self.batch_size
        epochs, rest = divmod(batches - left, per_epoch)
        return images_seen + to_end + epochs * self.size + rest * self.batch_size

    def batches(self, images_seen: int, *, conditional: bool = True) -> Iterator[Batch]:
        """Yield this rank's batches without end, the first one after `images_seen` images of the run.

        The conditions are left out unless `conditional`.
        """
        if self._on_device:
            images, conditions = self._on_device
            stored = self._indexed(images_seen, images, conditions if conditional else None)
        else:
            stored = self._streamed(images_seen)
        for images, condition in stored:
            total = self.batch_size_at(images_seen)
            images_seen += total
            condition = condition_to_network(condition) if conditional and condition is not None else None
            yield Batch(self.format.to_network(images), condition, total)

    def spec(self, latent_dim: int, *, conditional: bool, width_factor: float = 1.0) -> Spec:
        """Return what networks are built for. Raise ConfigError if `conditional` and the dataset has no condition."""
        if conditional and self.condition is None:
            raise ConfigError(
                "training.conditional needs a dataset with class names in `classes`, or with tensors as conditions; "
                "this dataset has neither",
                "choose a labeled dataset (folder takes classes=true), or --set training.conditional=false and a loss "
                "that needs no labels, such as bce",
            )
        return Spec(
            self.shape,
            latent_dim,
            self.condition if conditional else None,
            bounded=self.format.bounded,
            mirrors=bool(getattr(self.dataset, "mirrors", False)),
            width_factor=width_factor,
        )

    def first(self, count: int) -> Tensor:
        """Return up to `count` samples (N, *shape) from the start of the dataset, as networks see them."""
        count = min(count, self.size)
        if self._on_device:
            return self.format.to_network(self._on_device[0][:count])
        samples, _ = read_items(self.dataset, torch.arange(count), derive_seed(self._seed, "first"))
        return self.format.to_network(samples)

    @property
    def workers_choice(self) -> WorkersChoice | None:
        """The number of workers that load streamed data, once it is chosen; None if it is given."""
        return self._chooser.choice if self._chooser else None

    @property
    def is_in_memory(self) -> bool:
        """Whether the data is kept on the device, so that items are read quickly."""
        return self._on_device is not None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the dataset's classes, in the order of the labels; empty without classes."""
        return class_names(self.dataset) or ()

    @cached_property
    def class_counts(self) -> tuple[int, ...] | None:
        """The number of items of each class; None without classes, and where every item would have to be read."""
        if self._num_classes is None:
            return None
        labels = self._known_labels()
        return None if labels is None else tuple(torch.bincount(labels, minlength=self._num_classes).tolist())

    def read(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return samples (M, …) and conditions at item numbers (M,), as they are stored, on the CPU.

        Raises DataError for items that break the contract.
        """
        if self._on_device:
            images, conditions = (tensor[items.to(tensor.device)].cpu() for tensor in self._on_device)
            return images, conditions
        images, conditions = read_items(self.dataset, items, derive_seed(0, "read"))
        self._form.check_read(images, conditions)
        return images, conditions

    def examples(self, rows: int, per_row: int) -> list[tuple[int, Tensor, Tensor | None]]:
        """Return rows of samples as networks see them, with their conditions if these are pictures.

        There is a row for each class, with its number; if they are more than `rows`, for the first ones of which there
        are samples. Without classes there is one row, 0. Samples (N, *shape) with N <= `per_row` are uint8 with -1 as 0
        and 1 as 255 if they are bounded, else float32. They are evenly spaced items of each class, and do not depend on
        the seed of the run.
        """
        labels = self._known_labels() if self.classes else None

        def read_labels(items: Tensor) -> Tensor:
            per_read = max(1, _BYTES_PER_READ // self.item_bytes)  # the samples themselves are not kept
            return torch.cat([self.read(part)[1] for part in torch.split(items, per_read)])

        shown = list[tuple[int, Tensor, Tensor | None]]()
        for number, items in chosen_items(self.size, self.classes, labels, read_labels, rows, per_row):
            stored, conditions = self.read(items) if len(items) else (self._form.samples[:0], self._form.conditions[:0])
            seen = self.format.to_network(stored)
            is_picture = conditions.dtype == torch.uint8 and conditions.ndim == 4
            shown.append(
                (number, UINT8.to_stored(seen) if self.format.bounded else seen, conditions if is_picture else None)
            )
        return shown

    def _known_labels(self) -> Tensor | None:
        """Return the labels (N,) of all items on the CPU, if no item must be read for them."""
        return self._on_device[1].cpu() if self._on_device else known_labels(self.dataset)

    def draws_random_items(self) -> bool:
        """Return whether two reads of the first item differ, in data that is read once and kept on the device."""
        if self._on_device is None or type(self.dataset) is TensorDataset:
            return False
        first, second = (read_items(self.dataset, torch.tensor([0]), seed)[0] for seed in (1, 2))
        return not torch.equal(first, second)

    def shares_open_files(self) -> bool:
        """Return whether reads move the place in an open file of the dataset, which a given number of workers share.

        Where the number is chosen, none are started then. It is known on Linux only.
        """
        if self._on_device is not None or self._workers in ("auto", 0) or sys.platform != "linux":
            return False
        moves = False
        for item in (0, self.size // 2, self.size - 1):  # neighbors may be in one buffer
            places = places_in_open_files()
            read_items(self.dataset, torch.tensor([item]), derive_seed(self._seed, "first"))
            moves |= have_moved(places)
        return moves

    def describe(self, spec: Spec) -> dict[str, object]:
        """Return the format of samples and conditions of a run as plain data, for its checkpoints."""
        condition = list(spec.condition) if isinstance(spec.condition, tuple) else spec.condition
        return {
            "shape": list(self.shape),
            "condition": condition,
            "classes": list(self.classes),
            "class_counts": list(self.class_counts or ()),
            "dtype": self.format.dtype,
            "value_range": None if self.format.value_range is None else list(self.format.value_range),
            "scales": None if self.format.scales is None else self.format.scales.to_data(),
            "columns": list(self.columns),
            "mirrors": spec.mirrors,
        }

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 digest of the dataset's size and of evenly spaced items, to detect that the data has changed."""
        digest = hashlib.sha256(f"{self.size}".encode())
        last = self.size - 1  # which float32 may round up
        indices = torch.linspace(0, last, min(self.size, _FINGERPRINT_ITEMS)).long().clamp(max=last)
        images, conditions = (
            (tensor[indices.to(tensor.device)] for tensor in self._on_device)
            if self._on_device
            else read_items(self.dataset, indices, derive_seed(self._seed, "fingerprint"))
        )
        for tensor in (images, conditions):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        if self.format.scales is not None:  # they depend on all items
            digest.update(repr(self.format.scales).encode())
        return digest.hexdigest()

    def _indices(self, images_seen: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
        """Yield the item indices (N,) of this rank's part of each batch, on the device."""
        while True:
            epoch, offset = divmod(images_seen, self.size)
            order = epoch_order(self._seed, epoch, self.size).to(device)
            yield from map(self._ranks.part, torch.split(order[offset:], self.batch_size))
            images_seen += self.size - offset

    def _indexed(
        self, images_seen: int, images: Tensor, conditions: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        for rows in self._indices(images_seen, self.device):
            # index_select copies whole images, which is faster than indexing.
            yield images.index_select(0, rows), None if conditions is None else conditions.index_select(0, rows)

    def _streamed(self, images_seen: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        reader = Reader(self.dataset, self._form, self._seed)
        part = -(-self.batch_size // self._ranks.size)
        loader = Loader(reader, self._requests(images_seen), part, pin_memory=self.device.type == "cuda")
        with closing(loader):
            batches: Iterator[tuple[Tensor, Tensor]] = loader
            workers = self._workers if self.workers_choice is None else self.workers_choice.workers
            if workers == "auto":
                self._chooser = WorkersChooser(loader)
                batches = self._chooser.batches()
            else:
                loader.start(workers)
            for images, conditions in batches:
                yield images.to(self.device, non_blocking=True), conditions.to(self.device, non_blocking=True)

    def _requests(self, images_seen: int) -> Iterator[Request]:
        """Yield this rank's part of each batch."""
        for indices in self._indices(images_seen):
            total = self.batch_size_at(images_seen)
            yield Request(images_seen + self._ranks.offset(total), indices)
            images_seen += total


def _memory(device: torch.device, ranks: Ranks) -> float:
    """Return free memory on CUDA, else the machine's installed memory per process, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return installed_memory() / ranks.local_size
