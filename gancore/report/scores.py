"""The values of a metric in the log of a run, and what they are compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from gancore.metrics import Better


class ScoreDetails(BaseModel):
    """What evaluation.json says of a metric: the score of real data, and how the metric was measured."""

    model_config = ConfigDict(strict=True)

    better: Better
    value: float | None = None
    real_data: float | None
    counts: dict[str, int]
    extractor: dict[str, Any] | None  # Any: JSON
    reference: dict[str, Any] | None  # Any: JSON
    seed: int
    settings: dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Score:
    """The values of a metric in the log, oldest first, as pairs of step and value; NaN where it was not finite.

    Without evaluation.json there are no `details`: neither the better direction nor `real_data`, the score of real
    data, is known. Of further numbers of a metric, such as `modes.reverse_kl`, only that score is.
    """

    name: str
    history: tuple[tuple[int, float], ...]
    details: ScoreDetails | None = None
    real_data: float | None = None

    @property
    def value(self) -> float:
        """The newest value."""
        return self.history[-1][1]

    @property
    def step(self) -> int:
        """The step of the newest value."""
        return self.history[-1][0]

    @property
    def better(self) -> Better | None:
        """Whether lower or higher values are better, None if it is not known."""
        return self.details.better if self.details else None

    @property
    def best(self) -> tuple[int, float] | None:
        """The step and the value of the best one that is finite, the first of several; None if it is not known."""
        finite = [(step, value) for step, value in self.history if math.isfinite(value)]
        if not finite or self.better is None:
            return None
        choose = min if self.better == "lower" else max
        return choose(finite, key=lambda pair: pair[1])
