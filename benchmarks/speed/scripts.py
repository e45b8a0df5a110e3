"""The plain script as an arm: its loop, with its own loader or with data in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import plain
from benchmarks.speed.timing import CPU, Lap, Run

Loader = Iterable[list[Tensor]]


def start(loader: Loader, device: torch.device = CPU) -> Run:
    """Return a function that makes steps of the script's loop; the loader's batches must be on the device."""
    generator, discriminator = plain.Generator().to(device), plain.Discriminator().to(device)

    def run(steps: int) -> float:
        lap = Lap(loader, steps, plain.BATCH, device)
        plain.train(lap, generator, discriminator, 1)
        return lap.seconds

    return run


def original_loader(folder: Path) -> Loader:
    """Return the script's loader, which reads, converts and collates images one by one."""
    loader: Loader = DataLoader(plain.mnist(str(folder)), batch_size=plain.BATCH, shuffle=True)
    return loader


class Moved:
    """Batches of a loader, moved to a device."""

    def __init__(self, loader: Loader, device: torch.device) -> None:
        self._loader, self._device = loader, device

    def __iter__(self) -> Iterator[list[Tensor]]:
        for batch in self._loader:
            yield [each.to(self._device) for each in batch]


class InMemory:
    """Batches from two tensors: images are converted once, and a batch is taken by indices."""

    def __init__(self, folder: Path) -> None:
        data = plain.mnist(str(folder))
        self._images = data.data.unsqueeze(1).float().div_(127.5).sub_(1)
        self._labels = data.targets

    def __iter__(self) -> Iterator[list[Tensor]]:
        for chosen in torch.split(torch.randperm(len(self._images)), plain.BATCH):
            yield [self._images[chosen], self._labels[chosen]]
