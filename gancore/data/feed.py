"""The data feed: batches of real images in an order that is a pure function of seed and epoch.

So the data cursor is one integer, the number of images seen, and a run finds its place again by itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Shape
from gancore.data.items import EMPTY, check_items, check_labels, count_classes, pair, read_items
from gancore.data.loader import loaded
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import ConfigError, DataError, blame
from gancore.utils.random import derive_seed, generator_for, seeded

_LOOKED_AT = 256
"""Items that tell one dataset from another."""
_LARGEST_SHARE = 0.25
"""A dataset is kept on the device when it takes no more than this share of its memory."""


@dataclass(frozen=True, slots=True)
class Batch:
    """This rank's part of a batch: real images (N, *shape) as the networks see them, float32, and labels (N,) int64.

    `total` is the number of images of the whole batch over all ranks; with one rank it is N.
    """

    images: Tensor
    labels: Tensor
    total: int


def epoch_order(seed: int, epoch: int, size: int) -> Tensor:
    """The permutation (size,) of an epoch: the same on every device, another one for every seed and epoch."""
    return torch.randperm(size, generator=generator_for(seed, "order", epoch))


def to_network_range(stored: Tensor) -> Tensor:
    """uint8 images in 0..255 as torch's default float in [-1, 1]; vectors as they are."""
    return stored.to(torch.get_default_dtype()).div_(127.5).sub_(1) if stored.dtype == torch.uint8 else stored


def to_stored_range(images: Tensor) -> Tensor:
    """The inverse: images in [-1, 1] as uint8, rounded; vectors (N, F) as they are."""
    return images if images.ndim == 2 else images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


class Feed:
    """Batches of one dataset, for ever. The last batch of an epoch is as short as it comes.

    `shape` is that of an image or vector, `num_classes` the number of `dataset.classes`, None without them. Where there
    are several `ranks`, `batch_size` is that of all together, and each gives its own share of every batch.
    Raises DataError for an empty dataset, for one of fewer images than a batch, for a batch that leaves a rank without
    an image, and for items that keep no contract (see `contracts.Dataset`).
    """

    def __init__(
        self,
        dataset: TorchDataset[Any],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data: str = "auto",
        workers: int = 0,
        ranks: Ranks = SINGLE_RANK,
    ) -> None:
        with blame("dataset"):
            self.size = len(cast(Sized, dataset))
        if self.size == 0:
            raise DataError(EMPTY)
        self.batch_size, self.device = batch_size, device
        self.dataset = dataset
        self._seed, self._workers, self._ranks = seed, workers, ranks
        drawn = derive_seed(seed, "items")
        with blame("dataset"), seeded(drawn):
            first, _ = pair(dataset[0])
        check_items(first.unsqueeze(0))
        self.shape: Shape = tuple(first.shape)
        self.num_classes = count_classes(dataset)
        self._kept: tuple[Tensor, Tensor] | None = None
        if data == "device" or (data == "auto" and first.nbytes * self.size <= _LARGEST_SHARE * _memory(device, ranks)):
            images, labels = read_items(dataset, seed=drawn)
            check_labels(labels, self.num_classes)
            self._kept = images.to(device), labels.to(device)
        if self.size < batch_size:
            raise DataError(
                f"a batch takes no image twice, so a dataset holds at least as many; received {self.size} images, and "
                f"batches of {batch_size}",
                f"--batch-size {self.size}, or more images",
            )
        if self.least == 0:
            raise DataError(
                f"each of {ranks.size} processes has a share of every batch; {self.size} images in batches of "
                f"{batch_size} leave a last one of {self.size % batch_size or batch_size}",
                "fewer processes, or another --batch-size",
            )

    @property
    def least(self) -> int:
        """Images of the smallest share that a rank has of a batch."""
        return (self.size % self.batch_size or self.batch_size) // self._ranks.size

    def count(self, images_seen: int) -> int:
        """Images of the whole batch that begins at the cursor."""
        return min(self.batch_size, self.size - images_seen % self.size)

    def batches(self, images_seen: int) -> Iterator[Batch]:
        """All batches from the cursor on, without an end."""
        parts = self._indexed(images_seen, *self._kept) if self._kept else self._streamed(images_seen)
        for images, labels in parts:
            total = self.count(images_seen)
            images_seen += total
            yield Batch(to_network_range(images), labels, total)

    def class_count(self, conditional: bool) -> int | None:
        """How many classes networks are told of: none unless the run is conditional. Raises ConfigError without any."""
        if conditional and self.num_classes is None:
            raise ConfigError(
                "training.conditional needs a dataset whose `classes` say what its labels mean; this one has none",
                "choose a labeled dataset (folder takes classes=true), or --set training.conditional=false and a loss "
                "that asks for no labels, such as bce",
            )
        return self.num_classes if conditional else None

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the size, and of some items from all over the data, by which a change of it shows."""
        digest = hashlib.sha256(f"{self.size}".encode())
        chosen = torch.linspace(0, self.size - 1, min(self.size, _LOOKED_AT)).long()
        images, labels = (
            (part[chosen.to(part.device)] for part in self._kept)
            if self._kept
            else read_items(self.dataset, chosen, derive_seed(self._seed, "fingerprint"))
        )
        for part in (images, labels):
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _indices(self, images_seen: int) -> Iterator[Tensor]:
        while True:
            epoch, offset = divmod(images_seen, self.size)
            order = epoch_order(self._seed, epoch, self.size)
            yield from map(self._ranks.part, torch.split(order[offset:], self.batch_size))
            images_seen += self.size - offset

    def _indexed(self, images_seen: int, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in self._indices(images_seen):
            place = chosen.to(self.device, non_blocking=True)
            # It copies whole images, where indexing goes byte by byte.
            yield images.index_select(0, place), labels.index_select(0, place)

    def _streamed(self, images_seen: int) -> Iterator[tuple[Tensor, Tensor]]:
        items = loaded(
            self.dataset,
            self._asked(images_seen),
            seed=self._seed,
            workers=self._workers,
            pin_memory=self.device.type == "cuda",
        )
        for images, labels in items:
            check_items(images)
            check_labels(labels, self.num_classes)
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _asked(self, images_seen: int) -> Iterator[tuple[int, list[int]]]:
        """Each batch as `loaded` wants it: the images seen before it, and its indices."""
        for chosen in self._indices(images_seen):
            count = self.count(images_seen)
            yield images_seen + self._ranks.before(count), chosen.tolist()
            images_seen += count


def _memory(device: torch.device, ranks: Ranks) -> float:
    """Bytes of memory: what is free on CUDA, elsewhere what is installed for each process of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / ranks.local_size
