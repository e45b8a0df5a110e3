"""Curves of a run as lines of text, for terminals that can show them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gancore.report.scores import Score
    from gancore.report.summary import RunSummary

_WIDEST = 40
_OTHERS = 40
"""Columns for the name of a curve and for its newest value."""


def can_show_curves() -> bool:
    """Return whether standard output can show block characters."""
    from gancore.utils.sparkline import can_show_blocks

    return sys.stdout is not None and can_show_blocks(sys.stdout.encoding)


def is_terminal() -> bool:
    """Return whether standard output is a terminal that shows more than plain text."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def curves_of(row: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield the name of a curve, and its sparkline with the newest value: both losses, and each metric."""
    from gancore.report.summary import LOSSES
    from gancore.utils.sparkline import sparkline
    from gancore.utils.text import short_number

    width = max(1, min(_WIDEST, shutil.get_terminal_size().columns - _OTHERS))
    for name, key in zip(("D loss", "G loss"), LOSSES, strict=True):
        if values := [line[key] for line in row.training_lines]:
            yield name, f"{sparkline(values, width)}  {short_number(values[-1])}"
    for score in row.scores.values():
        yield score.name, f"{sparkline([value for _, value in score.history], width)}  {in_words(score)}"


def in_words(score: Score) -> str:
    """Return the newest value of a metric, with the score of real data and the best value."""
    from gancore.utils.text import short_number

    real = "" if score.real_data is None else f"real {short_number(score.real_data)}"
    best = score.best
    is_newest = best is None or best[0] == score.step
    of_best = "" if is_newest or best is None else f"best {short_number(best[1])} at step {best[0]:,}"
    about = ", ".join(filter(None, [real, of_best]))
    return f"{short_number(score.value)} ({about})" if about else short_number(score.value)
