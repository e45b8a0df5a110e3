"""Batches of items that are read while training runs, in this process or in worker processes."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from math import prod
from mmap import mmap
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.data.items import ItemForm, collate, get_items
from gancore.errors import GancoreError, WorkerError, blame, describe_error
from gancore.utils.random import derive_seed, seeded

PREFETCHED = 2
"""Batches that a worker reads ahead."""
_SECONDS_TO_END = 5.0
"""Seconds in which workers may finish what they read when a run ends."""
_Failure = tuple[GancoreError, BaseException | None]


class Request(NamedTuple):
    """A batch to read: its position in the run, in images, and the indices (N,) of its items."""

    position: int
    indices: Tensor


@dataclass(frozen=True)
class Reader:
    """Reads batches of a dataset whose items have a given form.

    Random numbers drawn for a batch depend on the seed and the batch's position only, so a batch is the same in any
    process, and after the run was resumed.
    """

    dataset: TorchDataset[Any]  # Any: the dataset's items
    form: ItemForm
    seed: int

    def read(self, position: int, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return samples (N, …) and conditions (N, …). Raise PluginError or DataError for a dataset that fails."""
        with blame("dataset"), seeded(derive_seed(self.seed, "items", position)):
            samples, conditions = collate(get_items(self.dataset, indices))
        self.form.check(samples, conditions)
        return samples, conditions


class Loader:
    """Batches in the order of their requests: samples (N, …) and conditions (N, …), N <= `batch_size`.

    They are read in this process until `start` starts workers. `close` must be called at the end. `patience` is the
    number of seconds after which a worker is taken to hang; None: never.
    Iteration raises the same PluginError or DataError for a failing dataset whichever process reads it, and WorkerError
    when a worker dies.
    """

    def __init__(
        self, reader: Reader, requests: Iterator[Request], batch_size: int, *, pin_memory: bool = False
    ) -> None:
        self._reader, self._requests, self._batch_size = reader, requests, batch_size
        self._pin_memory = pin_memory
        self.patience: float | None = None
        self._workers: list[_Worker] = []
        self._begun = deque[tuple[Request, _Worker, int]]()
        self._process = os.getpid()

    @property
    def count(self) -> int:
        """The number of workers."""
        return len(self._workers)

    def start(self, workers: int) -> None:
        """Start this number of workers in place of the present ones; 0: read in this process from now on.

        Batches that the present ones have read ahead are read again.
        """
        self.close()
        self._requests = chain([request for request, _, _ in self._begun], self._requests)
        self._begun.clear()
        if workers:
            atexit.register(self.close)  # before `multiprocessing` waits for its processes
        # Plugin files are imported in this process only; Python's default is `forkserver` since 3.14.
        method = "fork" if sys.platform == "linux" else multiprocessing.get_start_method()
        for _ in range(workers):
            with blame("dataset", "while it was sent to a data loading worker"):
                self._workers.append(_Worker(self._reader, self._batch_size, method))
        for slot in range(PREFETCHED):
            for worker in self._workers:
                self._begin_next(worker, slot)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if not self._workers:
            request = next(self._requests)
            samples, conditions = self._reader.read(request.position, request.indices.tolist())
            return (samples.pin_memory(), conditions.pin_memory()) if self._pin_memory else (samples, conditions)
        if not self._begun:
            raise StopIteration
        request, worker, slot = self._begun[0]
        worker.wait(self.patience)
        samples, conditions = (column[slot, : len(request.indices)] for column in (worker.samples, worker.conditions))
        # Copied, since the worker writes its next batch to the same memory.
        batch = samples.pin_memory() if self._pin_memory else samples.clone(), conditions.clone()
        self._begun.popleft()
        self._begin_next(worker, slot)
        return batch

    def _begin_next(self, worker: _Worker, slot: int) -> None:
        request = next(self._requests, None)
        if request is not None:
            worker.begin(slot, request)
            self._begun.append((request, worker, slot))

    def close(self) -> None:
        """End the workers, which read nothing more."""
        if os.getpid() != self._process:  # a process that was forked meanwhile
            return
        atexit.unregister(self.close)
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.tell_to_end()
        until = monotonic() + _SECONDS_TO_END
        for worker in workers:
            worker.end(until)


class _Worker:
    """A process that reads batches into memory that it shares with this one; messages between both are short.

    `samples` and `conditions` (slots, N, …) hold a batch in each slot.
    """

    def __init__(self, reader: Reader, batch_size: int, method: str) -> None:
        form, memory = reader.form, (PREFETCHED, batch_size)
        self._indices = _shared(memory, torch.int64, method)
        self.samples = _shared((*memory, *form.samples.shape[1:]), form.samples.dtype, method)
        self.conditions = _shared((*memory, *form.conditions.shape[1:]), form.conditions.dtype, method)
        context = multiprocessing.get_context(method)
        columns = self._indices, self.samples, self.conditions
        try:
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(reader, theirs, *columns), daemon=True)  # type: ignore[attr-defined]  # every context has it
            with theirs:  # the worker alone keeps it open, so its death is seen
                self._process.start()
        except OSError as error:
            what = f"a data loading worker cannot be started: {describe_error(error)}"
            raise WorkerError(what, "set training.workers lower") from error

    def begin(self, slot: int, request: Request) -> None:
        """Let the worker read a batch into the slot."""
        count = len(request.indices)
        self._indices[slot, :count] = request.indices
        with suppress(OSError):  # `wait` finds that it has died
            self._connection.send((slot, request.position, count))

    def wait(self, patience: float | None) -> None:
        """Wait until the worker has read the batch that was begun first. Raises what reading it has raised.

        Raises WorkerError if the worker has died, or has not read it after `patience` seconds.
        """
        try:
            if not self._connection.poll(patience):
                raise WorkerError(
                    f"a data loading worker has not read a batch in {patience:g} s", "--set training.workers=0"
                )
            failure: _Failure | None = self._connection.recv()
        except (OSError, EOFError) as error:
            raise self._death() from error
        if failure:
            raise failure[0] from failure[1]

    def _death(self) -> WorkerError:
        self._process.join(_SECONDS_TO_END)
        code = self._process.exitcode
        how = f"by signal {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
        how += ", as when memory runs out" if how == "by signal SIGKILL" else ""
        return WorkerError(f"a data loading worker died: it ended {how}", "gancore resume RUN")

    def tell_to_end(self) -> None:
        with suppress(OSError):  # it may have died
            self._connection.send(None)

    def end(self, until: float) -> None:
        """Wait for the process until this time, and kill it then."""
        self._process.join(max(0.0, until - monotonic()))
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(_SECONDS_TO_END)  # a process that waits for a disk may outlive this
        self._connection.close()


def _shared(shape: tuple[int, ...], dtype: torch.dtype, method: str) -> Tensor:
    """Return a tensor in memory that is shared with processes which are started by this method."""
    if method != "fork":
        named: Tensor = torch.empty(shape, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call]  # torch's
        return named
    # Memory without a name: /dev/shm may be small, as it is in containers.
    return torch.frombuffer(mmap(-1, prod(shape) * dtype.itemsize), dtype=dtype).view(shape)


def _serve(reader: Reader, connection: Connection, indices: Tensor, samples: Tensor, conditions: Tensor) -> None:
    """Read batches in a worker process until the run ends."""
    # The run alone decides when its workers end, also if a signal is sent to all of its processes.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    with suppress(OSError, AttributeError):  # Windows has no process groups
        os.setpgid(0, 0)
    torch.set_num_threads(1)
    run = multiprocessing.parent_process()
    with suppress(OSError, EOFError):  # the run was killed
        while run is not None:
            if connection not in wait([connection, run.sentinel]) or not (message := connection.recv()):
                return
            slot, position, count = message
            failure: _Failure | None = None
            try:
                batch = reader.read(position, indices[slot, :count].tolist())
                samples[slot, :count], conditions[slot, :count] = batch
            except GancoreError as error:
                # A plugin's exception may not survive pickling, and its traceback never does.
                failure = error, RuntimeError("in a data loading worker:\n" + traceback.format_exc())
            connection.send(failure)
