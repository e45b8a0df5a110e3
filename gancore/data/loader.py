"""Batches of items read as they are needed, in this process or by others: what they draw, and how they end."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from gancore.data.items import collate, items_of
from gancore.errors import GancoreError, WorkerError, blame, describe_error
from gancore.utils.random import derive_seed, seeded

_GONE = re.compile("DataLoader worker .* (exited unexpectedly|is killed by signal)")


def loaded(
    dataset: TorchDataset[Any],
    asked: Iterator[tuple[int, list[int]]],
    *,
    seed: int,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """A batch for each that is asked for, as its place in the run and the indices of its items.

    What the dataset raises is its own failure, told in the same words from any process; raises WorkerError when one of
    the `workers` is gone.
    """
    with blame("dataset", "on its way to a process that loads data"), _undisturbed():
        loader = DataLoader(
            _Batches(dataset, seed),
            sampler=asked,
            batch_size=None,  # a batch is an item of `_Batches`
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # else the loader draws a seed from the global one
            worker_init_fn=_apart,
            # Plugin files are modules of this process alone; Python's own choice is `forkserver` since 3.14.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        )
        batches = _started(loader)
    try:
        while True:
            with _outlived():
                batch = next(batches, None)
            if batch is None:
                return
            if isinstance(batch, _Failure):
                raise batch.error from batch.cause
            yield batch
    finally:
        del batches  # its workers end now, not when whoever keeps the error lets this frame go


@dataclass
class _Failure:
    """What a dataset raised, for the process that asked it: torch would write a traceback into its message."""

    error: GancoreError
    cause: BaseException | None


class _Batches(TorchDataset[Any]):
    """What a dataset draws at random for a batch depends on the seed and the batch's place alone.

    So it is the same in any process, and after any interruption.
    """

    def __init__(self, dataset: TorchDataset[Any], seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, asked: tuple[int, list[int]]) -> tuple[Tensor, Tensor] | _Failure:
        place, chosen = asked
        try:
            with blame("dataset"), seeded(derive_seed(self._seed, "items", place)):
                return collate(items_of(self._dataset, chosen))
        except GancoreError as error:
            if get_worker_info() is None:
                return _Failure(error, error.__cause__)
            # A stranger's exception may be lost on its way, and its traceback always is.
            return _Failure(error, RuntimeError("in a process that loads data:\n" + traceback.format_exc()))


def _as_it_is(batch: object) -> object:
    return batch


def _apart(worker: int) -> None:
    """In a worker: Ctrl-C and signals to the whole group are for the run, which ends its workers itself."""
    with suppress(OSError):
        os.setpgid(0, 0)


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    try:
        return iter(loader)
    except OSError as error:
        what = f"a process that loads data cannot be started: {describe_error(error)}"
        raise WorkerError(what, "set training.workers lower") from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Workers that are started in this block do not disturb the process, neither now nor when they end.

    torch's handler of SIGCHLD would raise that wherever the process is at the moment, be it amid a save or an import.
    Who asks a loader for a batch is told of it without a handler too, after five seconds at most.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        with warnings.catch_warnings():
            # More than there are cores, says torch; but those that wait take none.
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            yield
    finally:
        # torch sets one in the main thread alone, and nobody can put back a handler that is not Python's.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


@contextmanager
def _outlived() -> Iterator[None]:
    """That a loader's worker is gone is a WorkerError: what datasets raise does not come this way."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and not _GONE.search(str(error)):
            raise
        raise WorkerError(
            f"a process that loads data is gone: {describe_error(error)}",
            "look for what ended it, such as want of memory; then: gancore resume RUN",
        ) from error.with_traceback(None)  # its frames would keep the other workers
