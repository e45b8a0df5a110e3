"""Duration of a run: a number of epochs, steps, kimg or minutes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

Unit = Literal["epochs", "steps", "kimg", "minutes"]
_PATTERN = re.compile(rf"([0-9]+(?:\.[0-9]+)?) ({'|'.join(get_args(Unit))})")
_EXPONENT = re.compile(r"[0-9.]+[eE][-+]?[0-9]+ ")


@dataclass(frozen=True)
class Duration:
    """Total length of a run, counted from step 0: `50 epochs`, `1000 steps`, `2000 kimg`, `10 minutes`."""

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Parse a positive number and a unit; steps are whole. Raises ValueError for any other text."""
        match = _PATTERN.fullmatch(text)
        if not match or not 0 < float(match[1]) < math.inf:
            number = "a positive number" + ", without an exponent," * bool(_EXPONENT.match(text))
            raise ValueError(f"must be {number} and one of {', '.join(get_args(Unit))}, like '50 epochs'")
        if match[2] == "steps" and "." in match[1]:
            raise ValueError("steps must be a whole number, like '1000 steps'")
        return cls(float(match[1]), match[2])  # type: ignore[arg-type]  # the pattern allows only units

    def done(self, *, step: int, images_seen: int, seconds: float, dataset_size: int) -> float:
        """Return the fraction of the duration that is done; it is reached at 1 or more.

        `images_seen` counts real images that D has seen, `dataset_size` the images of an epoch.
        """
        so_far = {
            "epochs": images_seen / dataset_size,
            "steps": float(step),
            "kimg": images_seen / 1000,
            "minutes": seconds / 60,
        }
        return so_far[self.unit] / self.amount

    def total_epochs(self, dataset_size: int, images_per_step: int) -> float | None:
        """Return the duration in epochs; None for minutes."""
        images = {
            "epochs": self.amount * dataset_size,
            "steps": self.amount * images_per_step,
            "kimg": self.amount * 1000,
        }.get(self.unit)
        return None if images is None else images / dataset_size
