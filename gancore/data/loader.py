"""Batches of items that are read while training runs, in this process or in worker processes."""

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
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from gancore.data.items import collate, get_items
from gancore.errors import GancoreError, WorkerError, blame, describe_error
from gancore.utils.random import derive_seed, seeded

_Failure = tuple[GancoreError, BaseException | None]
_WORKER_DIED = re.compile("DataLoader worker .* (exited unexpectedly|is killed by signal)")


def load_batches(
    dataset: TorchDataset[Any],
    requests: Iterator[tuple[int, list[int]]],
    *,
    seed: int,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield samples (N, …) and conditions (N, …) for each request: a position in the run, and the indices of N items.

    Raises the same PluginError or DataError for a failing dataset whichever process reads it, and WorkerError when one
    of the `workers` dies.
    """
    with blame("dataset", "while it was sent to a data loading worker"), _sigchld_handler_kept():
        loader = DataLoader(
            _BatchDataset(dataset, seed),
            sampler=requests,
            batch_size=None,  # an item of `_BatchDataset` is a batch
            num_workers=workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # without one, the loader draws a seed from the global generator
            worker_init_fn=_leave_process_group,
            # Plugin files are imported in this process only; Python's default is `forkserver` since 3.14.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        )
        try:
            batches = iter(loader)
        except OSError as error:
            what = f"a data loading worker cannot be started: {describe_error(error)}"
            raise WorkerError(what, "set training.workers lower") from error
    try:
        while True:
            try:
                batch = next(batches, None)
            except (RuntimeError, ConnectionError, EOFError) as error:  # the dataset returns its errors
                if isinstance(error, RuntimeError) and not _WORKER_DIED.search(str(error)):
                    raise
                raise WorkerError(
                    f"a data loading worker died: {describe_error(error)}",
                    "find out what ended it, such as too little memory; then: gancore resume RUN",
                ) from error.with_traceback(None)  # its frames would keep the other workers alive
            if batch is None:
                return
            if isinstance(batch[0], GancoreError):
                raise batch[0] from batch[1]
            yield batch
    finally:
        del batches  # ends the workers now, even if a caught error keeps this frame alive


class _BatchDataset(TorchDataset[Any]):
    """A dataset of batches; an error and its cause take the place of a batch that could not be read.

    Random numbers drawn for a batch depend on the seed and the batch's position only, so a batch is the same in any
    process, and after the run was resumed. Errors are values because torch would put a traceback into their messages.
    """

    def __init__(self, dataset: TorchDataset[Any], seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, request: tuple[int, list[int]]) -> tuple[Tensor, Tensor] | _Failure:
        position, indices = request
        try:
            with blame("dataset"), seeded(derive_seed(self._seed, "items", position)):
                return collate(get_items(self._dataset, indices))
        except GancoreError as error:
            if get_worker_info() is None:
                return error, error.__cause__
            # Between processes a plugin's exception may not survive pickling, and its traceback never does.
            return error, RuntimeError("in a data loading worker:\n" + traceback.format_exc())


def _leave_process_group(_worker: int) -> None:
    """Keep Ctrl-C and other signals to the process group from a worker; the run ends its workers itself."""
    with suppress(OSError):
        os.setpgid(0, 0)


@contextmanager
def _sigchld_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGCHLD that torch replaces when it starts workers in this block.

    torch's handler raises when a worker dies, at any point of the program, even while a checkpoint is written. Without
    it, `next` on the loader still raises within five seconds.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        with warnings.catch_warnings():
            # torch warns of more workers than cores, but waiting workers use no core.
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            yield
    finally:
        # torch sets a handler in the main thread only. Python returns no handler that C code has set.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)
