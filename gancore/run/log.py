"""The log of a run, metrics.jsonl: cutting it back to the step of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from gancore.checkpoint.log import lines_of, numbers_of
from gancore.errors import CheckpointError
from gancore.run.changes import command_of_new_run
from gancore.utils.atomic import atomic_write

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
            f"start a new run from its weights: {command_of_new_run(folder)}",
        ) from error


def truncate_log(log: Path, step: int, lines: int) -> None:
    """Remove what was logged after a step, and all but the first `lines` lines of that step.

    A line that cannot be read stays unless it was certainly written later. Raises StorageError when the log cannot be
    read or written.
    """
    before = lines_of(log)
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


def _step_of(line: bytes) -> int | None:
    """Return the step of a line, also of one that is damaged after it; None if it cannot be read."""
    if (numbers := numbers_of(line)) is not None:
        return int(numbers["step"])
    return int(found[1]) if (found := _BEGIN.match(line)) else None
