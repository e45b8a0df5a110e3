"""Interruptions: signals that end a run, deferred while a step or a file must be completed."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import TypeVar

from gancore.errors import WorkerError

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """A signal asks the run to end. A KeyboardInterrupt, so that no `except Exception` catches it."""

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.signal = signal


class Interruption:
    """Receives signals from a signal handler, and ends the run at a safe point."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._depth = 0
        self._ignored = False
        self._deferred = False

    def arrive(self, signal: int) -> None:
        """Raise Interrupted, or defer that to the end of the outermost `deferred` block.

        Does nothing after a worker has died: the run is already ending, and torchrun may be sending SIGTERM to the
        other processes.
        """
        self.signal = signal
        if self._ignored:
            return
        if not self._depth:
            raise Interrupted(signal)
        self._deferred = True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Complete the block before a signal that arrives in it raises Interrupted."""
        self._depth += 1
        try:
            yield
        except WorkerError:
            self._ignored = True
            raise
        finally:
            self._depth -= 1
        if self._deferred and not self._depth:
            self._deferred = False
            self.check()

    def check(self) -> None:
        """Raise Interrupted when a signal has arrived: other code may have swallowed the first exception."""
        if self.signal is not None:
            raise Interrupted(self.signal)


def ending_at_ctrl_c(records: Generator[T], interruption: Interruption) -> Generator[T]:
    """Yield records; Ctrl-C while one is made ends the run after the step, and a second one at once.

    In the code between two records Ctrl-C raises KeyboardInterrupt as everywhere. So it does in other threads than the
    main one, and where the program handles SIGINT by itself.
    """
    try:
        while True:
            with ctrl_c_arrives_at(interruption):
                record = next(records, None)
            if record is None:
                return
            yield record
    finally:
        with ctrl_c_arrives_at(interruption):
            records.close()


@contextmanager
def ctrl_c_arrives_at(interruption: Interruption) -> Iterator[None]:
    """Let Ctrl-C in this block arrive at an interruption, and raise KeyboardInterrupt where that ends the block.

    A second one raises it at once. Does nothing in other threads than the main one, and where the program handles
    SIGINT by itself.
    """
    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if interruption.signal is not None:
            raise KeyboardInterrupt
        interruption.arrive(number)

    try:
        signal.signal(signal.SIGINT, handle)
        yield
    except Interrupted:
        raise KeyboardInterrupt from None  # as where Python handles Ctrl-C
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
