"""Heartbeats: ranks notice that another one is gone although its connections are still open.

That happens when a process is stopped, or when its machine or its network fails. Each rank counts in a store that all
share, and watches the count of the next rank. Time in which a rank was itself stopped does not count, so ranks that are
all suspended and woken together continue.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from threading import Event, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from gancore.errors import WorkerError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_BEATS_PER_LIMIT = 20
_LEFT = 1 << 40
"""Added to its count by a rank that has come to its end, and is not watched any more."""
_LOST = "lost"
"""The key of the rank that was lost first."""
NEXT = "with the launcher as before: gancore resume RUN"
"""The hint after a loss. The command line replaces RUN."""


class Heartbeat:
    """Counts for `rank` of `size`, and watches the next rank, until it is stopped.

    A rank whose count stands still for `limit_s` seconds is lost: `check` raises WorkerError on all ranks, or the
    process exits at once if `exits`, because its main thread may wait for a GPU where no exception can reach it.
    """

    def __init__(self, store: Store, rank: int, size: int, *, limit_s: float, exits: bool) -> None:
        self._store = store.clone()  # a connection of its own, since calls block
        self._rank, self._size, self._limit_s, self._exits = rank, size, limit_s, exits
        self._next = (rank + 1) % size
        self._count = 0
        """The newest count of the next rank."""
        self._lost: int | None = None
        self._is_over, self._has_left = Event(), False
        # Calls of the store have no time limit: they block while the process that hosts it is stopped. So another
        # thread measures the time.
        self._counting = Thread(target=self._exchange, name="heartbeat", daemon=True)
        self._counting.start()
        Thread(target=self._watch, name="heartbeat-watch", daemon=True).start()

    @property
    def is_lost(self) -> bool:
        """Whether a rank is lost, so that nothing that waits for it may be waited for."""
        return self._lost is not None

    @property
    def is_reported_by_root(self) -> bool:
        """Whether rank 0, which is another process, reports the loss."""
        return self._rank != 0 and self._lost != 0

    def check(self) -> None:
        """Raise WorkerError if a rank is lost."""
        if self._lost is not None:
            raise WorkerError(self._message(), NEXT)

    def stop(self, *, has_left: bool) -> None:
        """Stop counting. A rank that `has_left` is not waited for; any other is lost after the limit."""
        self._has_left = has_left
        self._is_over.set()
        self._counting.join(timeout=self._limit_s / _BEATS_PER_LIMIT)  # it may be blocked

    def _message(self) -> str:
        return (
            f"process {self._lost} has not answered for {self._limit_s:.0f} seconds: "
            "it is stopped, or its machine or network is down"
        )

    def _exchange(self) -> None:
        """Count, and read the other counts, until the store is gone."""
        with suppress(RuntimeError):  # the process that hosts the store has ended
            while True:
                is_over = self._is_over.wait(self._limit_s / _BEATS_PER_LIMIT)
                if not is_over or self._has_left:
                    self._store.add(f"beat/{self._rank}", _LEFT if is_over else 1)
                if is_over:
                    self._wait_for_others()
                    return
                self._count = self._store.add(f"beat/{self._next}", 0)
                if self._lost is None and self._store.check([_LOST]):
                    self._lost = int(self._store.get(_LOST))

    def _wait_for_others(self) -> None:
        """Let rank 0, which may host the store, end after the others, for which torch would print an error."""
        self._store.add("over", 1)
        for _ in range(20):
            if self._rank or self._store.add("over", 0) == self._size:
                return
            sleep(0.05)

    def _watch(self) -> None:
        """Measure how long the count of the next rank has stood still."""
        interval = self._limit_s / _BEATS_PER_LIMIT
        count, silent_s, before = 0, 0.0, monotonic()
        while not self._is_over.wait(interval) and self._count < _LEFT:
            now = monotonic()
            elapsed, before = min(now - before, 2 * interval), now  # a longer time: this process was stopped too
            silent_s = silent_s + elapsed if count == self._count else 0.0
            count = self._count
            if silent_s >= self._limit_s and self._lost is None:
                self._lost = self._next
                Thread(target=self._announce, args=(self._next,), daemon=True).start()
            if self._lost is not None:
                if self._exits:
                    self._exit()
                return

    def _announce(self, lost: int) -> None:
        with suppress(RuntimeError):
            self._store.compare_set(_LOST, "", str(lost))  # the first rank to notice a loss names it

    def _exit(self) -> None:
        if not self.is_reported_by_root:
            sys.stderr.write(f"error: {self._message()}\nkept: the checkpoints of the run\nnext: {NEXT}\n")
            sys.stderr.flush()
        os._exit(9)
