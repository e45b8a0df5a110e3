"""The log of a run, metrics.jsonl: reading it."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gancore.errors import ConfigError, StorageError
from gancore.utils.files import regular


class MetricsTable(list[dict[str, float]]):
    """The lines of a log, oldest first: one dict of numbers per line. `damaged` counts the lines that are left out."""

    damaged: int = 0

    def to_pandas(self) -> Any:  # Any: a pandas.DataFrame, and pandas need not be installed
        """Return a pandas DataFrame with one row per line. Raises ConfigError when pandas is not installed."""
        return to_pandas(self)


def to_pandas(rows: Sequence[Mapping[str, object]]) -> Any:  # Any: as above
    """Return a pandas DataFrame of rows. Raises ConfigError when pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("to_pandas() needs pandas, which is not installed", "pip install pandas") from error
    return pandas.DataFrame(list(rows))


def read_log(log: Path) -> MetricsTable:
    """Return the lines of a log; NaN stands for numbers that were not finite. No file is an empty log.

    Lines that are blank, cut or damaged are left out, and counted in `damaged`. Raises StorageError when the file
    cannot be read.
    """
    lines = [numbers_of(line) for line in lines_of(log)]
    table = MetricsTable(line for line in lines if line is not None)
    table.damaged = len(lines) - len(table)
    return table


def kimg_at(log: MetricsTable, steps: Sequence[int]) -> list[float | None]:
    """Return thousands of real images after each step: linear between the lines of a log, and after the last one.

    That is exact as long as the batch size does not change. None for a log without such numbers.
    """
    points = {0.0: 0.0}
    for line in log:
        with suppress(OverflowError):  # a file can hold integers of any length
            at, kimg = float(line["step"]), float(line.get("kimg", math.nan))
            if math.isfinite(kimg):
                points[at] = kimg
    known = sorted(points)
    found: list[float | None] = []
    for step in steps:
        after = bisect_left(known, step)
        if step in points:
            found.append(points[step])
        elif len(known) == 1:
            found.append(None)
        elif after == len(known):
            found.append(points[known[-1]] * step / known[-1])
        else:
            low, high = known[after - 1], known[after]
            found.append(points[low] + (points[high] - points[low]) * (step - low) / (high - low))
    return found


def describe_damage(log: Path, damaged: int) -> str:
    """Return a sentence about the damaged lines of a log."""
    return (
        f"{log} has "
        + ("1 damaged line, which is" if damaged == 1 else f"{damaged:,} damaged lines, which are")
        + " skipped"
    )


def lines_of(log: Path) -> list[bytes]:
    """Return the lines of a log as bytes, each with its end; none if there is no file."""
    try:
        with regular(log) as file:
            return file.readlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read {log}: {error.strerror or error}", "restore it, or move it away") from error


def numbers_of(line: bytes) -> dict[str, float] | None:
    """Return the numbers of a line; None unless it is an object of numbers with a step."""
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or type(found.get("step")) is not int:
        return None
    if not all(value is None or type(value) in (int, float) for value in found.values()):
        return None
    return {key: math.nan if value is None else value for key, value in found.items()}
