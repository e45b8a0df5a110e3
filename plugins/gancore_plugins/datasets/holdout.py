"""The rows of a user's data that are held out from training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gancore.contracts import Dataset, Split


class HeldOutRows(Dataset):
    """A dataset of rows, of which `holdout` is the share that is held out."""

    holdout: float = Field(default=0.0, ge=0, le=0.5, description="share of the rows that is held out from training")
    split: Split = Field(default="train", description="rows to train on, or held-out rows; all without holdout")

    def part(self, split: Split) -> Dataset | None:
        return self.model_copy(update={"split": split}) if self.holdout else None


def held_out(count: int, share: float) -> NDArray[np.bool_]:
    """Return which of `count` rows (count,) are held out: about this share in 0..1, at least one unless it is 0.

    It depends on the number of a row only, so rows that are added later change nothing for the others.
    """
    # The finalizer of SplitMix64, Steele et al. 2014 (doi:10.1145/2714064.2660195), spreads consecutive numbers.
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    places = (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
    chosen: NDArray[np.bool_] = places < share
    if share > 0 and count > 1 and not chosen.any():
        chosen[places.argmin()] = True
    return chosen
