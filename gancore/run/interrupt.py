"""Interruptions: signals that end a run, and that wait while something must stay whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gancore.errors import WorkerError


class Interrupted(KeyboardInterrupt):
    """A signal asks for the end. It is a KeyboardInterrupt, so that nothing takes it for an error."""

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.signal = signal


class Interruption:
    """What the handler of a signal tells. Without a handler nothing ever arrives."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._held = 0
        self._late = False
        self._waits = False

    def arrive(self, signal: int) -> None:
        """Raises Interrupted; while something is held, that is put off to its end.

        Once a process is gone the run ends for that, and nothing is raised: whoever started them may end the others.
        """
        self.signal = signal
        if self._late:
            return
        if not self._held:
            raise Interrupted(signal)
        self._waits = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is done in this block is done to its end: a signal that arrives meanwhile is raised after it."""
        self._held += 1
        try:
            yield
        except WorkerError:
            self._late = True
            raise
        finally:
            self._held -= 1
        if self._waits and not self._held:
            self._waits = False
            self.check()

    def check(self) -> None:
        """Raises Interrupted when a signal has arrived: somebody on the way may have swallowed what was raised."""
        if self.signal is not None:
            raise Interrupted(self.signal)
