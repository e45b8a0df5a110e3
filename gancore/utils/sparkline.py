"""Sparkline: a curve as one line of block characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median_low

BLOCKS = "▁▂▃▄▅▆▇█"
_GAP = " "


def sparkline(values: Sequence[float], width: int) -> str:
    """Return values as characters from ▁, the least, to █, the greatest; a space where none is finite.

    More than `width` values are put into `width` bins, each shown by the lower median of its finite values. Equal
    values are shown by ▄.
    """
    count = min(len(values), width)
    bins = [values[len(values) * at // count : len(values) * (at + 1) // count] for at in range(count)]
    heights = [median_low(finite) if (finite := list(filter(math.isfinite, part))) else None for part in bins]
    known = [height for height in heights if height is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)

    def block(height: float | None) -> str:
        if height is None:
            return _GAP
        # Halves, since the difference of two large numbers is not finite.
        part = (height / 2 - low / 2) / (high / 2 - low / 2) if low / 2 < high / 2 else 0.5
        return BLOCKS[min(int(part * len(BLOCKS)), len(BLOCKS) - 1)] if low < high else BLOCKS[3]

    return "".join(map(block, heights))


def can_show_blocks(encoding: str | None) -> bool:
    """Return whether text of this encoding can hold a sparkline."""
    try:
        return bool(BLOCKS.encode(encoding or "ascii"))
    except (UnicodeEncodeError, LookupError):
        return False
