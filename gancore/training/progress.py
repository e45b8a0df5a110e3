"""How far a run has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """Generator updates, real images that D has seen, and seconds of wall-clock time.

    `nonfinite` counts steps that were skipped, and rollbacks, because something was not finite.
    """

    step: int = 0
    images_seen: int = 0
    seconds: float = 0.0
    nonfinite: int = 0


class Every:
    """Something that is due each time another `kimg` thousand images have been seen."""

    def __init__(self, progress: Progress, kimg: float) -> None:
        self._progress, self._kimg = progress, kimg
        self._done = self._intervals()

    def _intervals(self) -> int:
        return int(self._progress.images_seen / (1000 * self._kimg))

    def is_due(self) -> bool:
        """Return whether another interval has passed since the last call."""
        before, self._done = self._done, self._intervals()
        return self._done > before
