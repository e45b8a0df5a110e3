"""Interruptions: signals that end a run, and that wait while something must stay whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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

    def arrive(self, signal: int) -> None:
        """Raises Interrupted; while something is held, that is put off to its end."""
        self.signal = signal
        if not self._held:
            raise Interrupted(signal)

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is done in this block is done to its end: a signal that has arrived meanwhile is raised after it.

        Before it, too: something on the way may have swallowed what was raised.
        """
        self._check()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self._check()

    def _check(self) -> None:
        if self.signal is not None and not self._held:
            raise Interrupted(self.signal)
