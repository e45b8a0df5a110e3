"""Interruptions: signals that end a run, deferred while a step or a file must be completed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gancore.errors import WorkerError


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
