"""The log of a run, metrics.jsonl: reading it, and cutting it back to the step of a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from gancore.errors import CheckpointError, ConfigError
from gancore.utils.atomic import atomic_write, writing

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
    """The lines of a log, oldest first: one dict of numbers per line."""

    def to_pandas(self) -> Any:  # Any: a pandas.DataFrame, and pandas need not be installed
        """Return a pandas DataFrame with one row per line. Raises ConfigError when pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("to_pandas() needs pandas, which is not installed", "pip install pandas") from error
        return pandas.DataFrame(list(self))


def read_log(log: Path) -> MetricsTable:
    """Return all complete lines of a log; NaN stands for numbers that were not finite. No file is an empty log."""
    content = log.read_bytes() if log.exists() else b""
    lines = (json.loads(line) for line in content.splitlines(keepends=True) if _step_of(line) is not None)
    return MetricsTable({key: math.nan if value is None else value for key, value in line.items()} for line in lines)


def truncate_log(log: Path, step: int, lines: int) -> None:
    """Remove everything that was logged after a step, all but the first `lines` lines of that step, and torn lines.

    Raises StorageError when the log cannot be written.
    """
    with writing(log):
        content = log.read_bytes() if log.exists() else b""
    kept = list[bytes]()
    for line in content.splitlines(keepends=True):
        at = _step_of(line)
        lines -= at == step
        if at is None or at > step or lines < 0:
            break
        kept.append(line)
    if (shorter := b"".join(kept)) != content:
        with atomic_write(log) as path:
            path.write_bytes(shorter)


def _step_of(line: bytes) -> int | None:
    """Return the step of a line, None for a line that was not written completely."""
    try:
        step = json.loads(line)["step"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) else None
