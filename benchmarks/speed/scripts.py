"""The plain script as an arm: its own loop, with its own loader or with its data in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import plain
from benchmarks.speed.timing import CPU, Lap, RunConfig

Loader = Iterable[list[Tensor]]


def begun(loader: Loader, device: torch.device = CPU) -> RunConfig:
    """The script's two networks, in its loop, on the device where the loader's batches are."""
    generator, discriminator = plain.Generator().to(device), plain.Discriminator().to(device)

    def run(steps: int) -> float:
        lap = Lap(loader, steps, plain.BATCH, device)
        plain.train(lap, generator, discriminator, 1)
        return lap.seconds

    return run


def as_it_is(folder: Path) -> Loader:
    """The script's own loader, which reads, converts and collates pictures one by one."""
    loader: Loader = DataLoader(plain.mnist(str(folder)), batch_size=plain.BATCH, shuffle=True)
    return loader


class InMemory:
    """The same batches from two tensors: every image is converted once, and a batch is taken by its indices."""

    def __init__(self, folder: Path) -> None:
        data = plain.mnist(str(folder))
        self._images = data.data.unsqueeze(1).float().div_(127.5).sub_(1)
        self._labels = data.targets

    def __iter__(self) -> Iterator[list[Tensor]]:
        for chosen in torch.split(torch.randperm(len(self._images)), plain.BATCH):
            yield [self._images[chosen], self._labels[chosen]]
