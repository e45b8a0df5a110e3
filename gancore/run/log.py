"""The log of a run, metrics.jsonl: reading it, and cutting it back to the step of a checkpoint."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from gancore.errors import CheckpointError, ConfigError, StorageError
from gancore.utils.atomic import atomic_write
from gancore.utils.files import regular

_BEGIN = re.compile(rb'\{"step": (\d{1,18}),')
"""How each line of a log begins."""

PendingTask = Literal["samples", "evaluation", "guarded evaluation"]
"""Work due after a step: draw a picture of samples, evaluate, or evaluate and check for collapse."""


class RecorderState(BaseModel):
    """State of the recorder at a checkpoint.

    `lines` counts the lines of the log that have the checkpoint's step, `pending` lists the work that was still due
    after that step, `best` is the best value of `checkpoint.best` so far, `low` counts the low diversity values of the
    collapse guard in a row, and `penalties` has the most recent one of each regularizer.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    lines: int = Field(default=0, ge=0)
    pending: list[PendingTask] = []
    best: float | None = Field(default=None, allow_inf_nan=False)
    low: int = Field(default=0, ge=0)
    penalties: dict[str, FiniteFloat] = {}


def recorder_state(about: Mapping[str, Any], folder: Path) -> RecorderState:  # Any: JSON
    """Return the recorder's state from the metadata of a checkpoint of the run in `folder`.

    Raises CheckpointError when the metadata has none.
    """
    try:
        return RecorderState.model_validate(about["recorded"])
    except (KeyError, ValidationError) as error:
        raise CheckpointError(
            f"the newest checkpoint of {folder} does not hold the state of the log",
            "start a new run from its weights: gancore train --init-from",
        ) from error


class MetricsTable(list[dict[str, float]]):
    """The lines of a log, oldest first: one dict of numbers per line. `damaged` counts the lines that are left out."""

    damaged: int = 0

    def to_pandas(self) -> Any:  # Any: a pandas.DataFrame, and pandas need not be installed
        """Return a pandas DataFrame with one row per line. Raises ConfigError when pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("to_pandas() needs pandas, which is not installed", "pip install pandas") from error
        return pandas.DataFrame(list(self))


def read_log(log: Path) -> MetricsTable:
    """Return the lines of a log; NaN stands for numbers that were not finite. No file is an empty log.

    Lines that are blank, cut or damaged are left out, and counted in `damaged`. Raises StorageError when the file
    cannot be read.
    """
    lines = [_numbers(line) for line in _lines_of(log)]
    table = MetricsTable(line for line in lines if line is not None)
    table.damaged = len(lines) - len(table)
    return table


def describe_damage(log: Path, damaged: int) -> str:
    """Return a sentence about the damaged lines of a log."""
    return (
        f"{log} has "
        + ("1 damaged line, which is" if damaged == 1 else f"{damaged:,} damaged lines, which are")
        + " skipped"
    )


def truncate_log(log: Path, step: int, lines: int) -> None:
    """Remove what was logged after a step, and all but the first `lines` lines of that step.

    A line that cannot be read stays unless it was certainly written later. Raises StorageError when the log cannot be
    read or written.
    """
    before = _lines_of(log)
    kept = [line if line.endswith(b"\n") else line + b"\n" for line in _until(before, step, lines)]
    if kept != before:
        with atomic_write(log) as path:
            path.write_bytes(b"".join(kept))


def _until(log: list[bytes], step: int, lines: int) -> Iterator[bytes]:
    """Yield the lines up to a step: those that cannot be read wherever they may be as old as it."""
    unknown: list[bytes] = []  # since the last line that is kept
    is_later = False  # whether a line of a later time has followed it
    for line in log:
        at = _step_of(line)
        if at is None:
            unknown += [] if is_later else [line]
            continue
        lines -= at == step
        if at > step or lines < 0:
            is_later = True
            continue
        yield from unknown
        yield line
        # The log is written in order, so nothing older follows the last line of the step.
        unknown, is_later = [], at == step and lines == 0
    yield from unknown


def _lines_of(log: Path) -> list[bytes]:
    """Return the lines of a log as bytes, each with its end; none if there is no file."""
    try:
        with regular(log) as file:
            return file.readlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read {log}: {error.strerror or error}", "restore it, or move it away") from error


def _numbers(line: bytes) -> dict[str, float] | None:
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


def _step_of(line: bytes) -> int | None:
    """Return the step of a line, also of one that is damaged after it; None if it cannot be read."""
    if (numbers := _numbers(line)) is not None:
        return int(numbers["step"])
    return int(found[1]) if (found := _BEGIN.match(line)) else None
