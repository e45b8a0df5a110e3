"""How far a run has come, and what is due on the way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """How far a run has come: generator updates, real images that D has seen, and seconds on the wall's clock.

    `nonfinite` is how often a step was left out, or the run went back, because of numbers that were not finite.
    """

    step: int = 0
    images_seen: int = 0
    seconds: float = 0.0
    nonfinite: int = 0


class Every:
    """Something that is due whenever so many more thousand images have been seen."""

    def __init__(self, progress: Progress, kimg: float) -> None:
        self._progress, self._kimg = progress, kimg
        self._done = self._intervals()

    def _intervals(self) -> int:
        return int(self._progress.images_seen / (1000 * self._kimg))

    def is_due(self) -> bool:
        """Whether another interval has gone by since this was last asked."""
        before, self._done = self._done, self._intervals()
        return self._done > before
