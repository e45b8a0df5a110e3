"""Batches of items read as they are needed, in this process or by others: what they draw, and how they end."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gancore.errors import WorkerError, blamed, told
from gancore.randomness import derive_seed, seeded

_GONE = re.compile("DataLoader worker .* (exited unexpectedly|is killed by signal)")
_RAISED_THERE = "in DataLoader worker process"
"""In what a dataset raises in a worker, as it is told here."""


def loaded(
    dataset: TorchDataset[Any],
    asked: Iterator[list[int]],
    *,
    seed: int,
    workers: int,
    collate: Callable[[list[object]], tuple[Tensor, Tensor]],
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """A batch for each that is asked for, as its place in the run and then the indices of its items.

    What the dataset raises is its own failure; raises WorkerError when one of the `workers` is gone.
    """
    loader = DataLoader(
        _Drawn(dataset, seed),
        batch_sampler=asked,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader draws a seed from the global one
        worker_init_fn=_apart,
    )
    with _undisturbed():
        batches = iter(loader)
    while True:
        with blamed("dataset"), _outlived() if workers else nullcontext():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


class _Drawn(TorchDataset[Any]):
    """What a dataset draws at random for a batch depends on the seed and the batch's place alone.

    So it is the same in any process, and after any interruption.
    """

    def __init__(self, dataset: TorchDataset[Any], seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getitems__(self, asked: list[int]) -> list[Any]:
        place, *chosen = asked
        with seeded(derive_seed(self._seed, "items", place)):
            many = getattr(self._dataset, "__getitems__", None)
            return list(many(chosen)) if many else [self._dataset[index] for index in chosen]


def _apart(worker: int) -> None:
    """In a worker: Ctrl-C and signals to the whole group are for the run, which ends its workers itself."""
    with suppress(OSError):
        os.setpgid(0, 0)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Workers that are started in this block do not disturb the process when they end.

    torch's handler of SIGCHLD would raise that wherever the process is at the moment, be it amid a save or an import.
    Who asks a loader for a batch is told of it without a handler too, after five seconds at most.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        # torch sets one in the main thread alone, and nobody can put back a handler that is not Python's.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


@contextmanager
def _outlived() -> Iterator[None]:
    """That a loader's worker is gone is a WorkerError; what a dataset raises is not."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if _RAISED_THERE in str(error) or (isinstance(error, RuntimeError) and not _GONE.search(str(error))):
            raise
        raise WorkerError(
            f"a process that loads data is gone: {told(error)}",
            "look for what ended it, such as want of memory; then: gancore resume RUN",
        ) from error
