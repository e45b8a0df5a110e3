"""The number of workers of streamed data where the config says `auto`: batches are timed while training uses them."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import F_GETFL, fcntl
from itertools import islice
from statistics import median
from time import perf_counter
from typing import NamedTuple

from torch import Tensor

from gancore.data.loader import PREFETCHED, Loader
from gancore.errors import GancoreError, WorkerError

_Batch = tuple[Tensor, Tensor]
_NUMBERS = (0, 1, 2, 4, 8)
_ALWAYS_TRIED = 2
"""The number that is tried even if fewer workers did not help: one reads hardly faster than the run itself."""
_ADVANTAGE = 1.05
"""How many times as fast training must be with more workers."""
_SHORT = 0.05
"""The share of the time that may be spent on waiting for batches: no further workers are tried."""
_WARM_UP = 4
"""First batches that are not timed, since first steps are slower."""
_BLOCK, _BLOCKS = 5, 8
"""Batches that are timed together, and the number of times."""
_ENOUGH_BLOCKS, _ENOUGH_SECONDS = 3, 1.0
"""Numbers of blocks and seconds after which no more are timed."""
_PATIENCE = 30.0
"""Seconds for a batch, or more for slow data, after which a worker is taken to hang."""


@dataclass(frozen=True)
class WorkersChoice:
    """The number of workers that was chosen, and the seconds of training per batch with each number that was tried.

    `reason` says why there are no workers, where that does not follow from the times.
    """

    workers: int
    seconds_per_batch: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""

    def __str__(self) -> str:
        timed = ", ".join(
            f"{1000 * seconds:.3g} ms with {n or 'none'}" for n, seconds in self.seconds_per_batch.items()
        )
        return f"workers: {self.workers or 'none'} ({self.reason or f'a batch takes {timed}'})"


class Pace(NamedTuple):
    """Seconds per batch, and the part of them that training waits for the batch."""

    seconds: float
    waited: float


def number_to_try(paces: Mapping[int, Pace]) -> int | None:
    """Return the number of workers to try after those with these paces; None: no further one."""
    if not paces:
        return 0
    last = max(paces)
    waits = paces[last].waited > _SHORT * paces[last].seconds
    if not waits or (last >= _ALWAYS_TRIED and best_number(paces) != last):
        return None
    return next((number for number in _NUMBERS if number > last), None)


def best_number(paces: Mapping[int, Pace]) -> int:
    """Return the number of workers to keep: of those that were tried, the last that made training faster."""
    best = 0
    for number in sorted(paces):
        if paces[number].seconds * _ADVANTAGE < paces[best].seconds:
            best = number
    return best


class WorkersChooser:
    """Batches of an endless loader, for which it chooses the number of workers at the beginning.

    `choice` is set once it is made. More workers are tried while they make training faster by a twentieth. No workers
    are started that would share an open file of the dataset with this process: each read moves the other's place.
    """

    def __init__(self, loader: Loader) -> None:
        self.choice: WorkersChoice | None = None
        self._loader = loader

    def batches(self) -> Iterator[_Batch]:
        """Yield the batches of the loader."""
        if sys.platform != "linux":
            self.choice = WorkersChoice(0, reason="on this system they are not forked")
            yield from self._loader
            return
        paces = dict[int, Pace]()
        try:
            reason = yield from self._tried(paces)
        except GancoreError as error:
            if not paces:  # raised in this process
                raise
            # The data may be readable in one process only. The batch is read again, which repeats any other error.
            reason = str(error) if isinstance(error, WorkerError) else f"in a worker, {error}"
        seconds = {number: pace.seconds for number, pace in paces.items()}
        if reason:
            self._loader.start(0)
            self.choice = WorkersChoice(0, seconds, reason)
        else:
            self.choice = WorkersChoice(self._loader.count, seconds)
        self._loader.patience = None
        yield from self._loader

    def _tried(self, paces: dict[int, Pace]) -> Generator[_Batch, None, str]:
        """Time numbers of workers, and start the best. Return why no worker was tried; empty if one was."""
        if (yield from self._moves_open_files()):
            return "the dataset reads files that it keeps open, which processes cannot share"
        while (number := number_to_try(paces)) is not None:
            yield from self._started(number)
            paces[number] = yield from self._pace()
            self._loader.patience = max(_PATIENCE, 100 * paces[0].waited)
        if len(paces) == 1:
            return f"reading takes {paces[0].waited / paces[0].seconds:.0%} of the time"
        best = best_number(paces)
        if best != self._loader.count:
            yield from self._started(best)
        return ""

    def _started(self, number: int) -> Iterator[_Batch]:
        """Start workers, and yield the batches until they read ahead."""
        if number != self._loader.count:
            self._loader.start(number)
        yield from islice(self._loader, PREFETCHED * number)

    def _moves_open_files(self) -> Generator[_Batch, None, bool]:
        """Read the first batches in this process; return whether that moves the place in a file that was open."""
        moves = False
        for _ in range(_WARM_UP):
            before = places_in_open_files()
            batch = next(self._loader)
            moves |= have_moved(before)
            yield batch
        return moves

    def _pace(self) -> Generator[_Batch, None, Pace]:
        blocks = list[Pace]()
        begun = perf_counter()
        while len(blocks) < _BLOCKS and (len(blocks) < _ENOUGH_BLOCKS or perf_counter() - begun < _ENOUGH_SECONDS):
            start, waited = perf_counter(), 0.0
            for _ in range(_BLOCK):
                asked = perf_counter()
                batch = next(self._loader)
                waited += perf_counter() - asked
                yield batch
            blocks.append(Pace((perf_counter() - start) / _BLOCK, waited / _BLOCK))
        return Pace(median(each.seconds for each in blocks), median(each.waited for each in blocks))


def places_in_open_files() -> dict[int, int]:
    """Return the position in each file that this process has open for reading, by the number of the file.

    The standard streams do not count: other processes may write to the same file.
    """
    places = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # no file, but a pipe, for example; or closed meanwhile
            if number > 2 and fcntl(number, F_GETFL) & os.O_ACCMODE != os.O_WRONLY:
                places[number] = os.lseek(number, 0, os.SEEK_CUR)
    return places


def have_moved(places: Mapping[int, int]) -> bool:
    """Return whether the position in a file has changed since these of `places_in_open_files`."""
    now = places_in_open_files()
    return any(now.get(file, place) != place for file, place in places.items())
