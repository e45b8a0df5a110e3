"""The written history of a run: what of it a saved state knows, and how what came after that is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gancore.errors import CheckpointError
from gancore.utils.atomic import atomic_write, writing

PendingTask = Literal["picture", "look", "guarded look"]
"""What is owed after a step: a picture, or an evaluation, perhaps with the collapse guard."""


class Recorded(BaseModel):
    """How far the writing was when a state was saved.

    `lines` are those of the log that have the state's step, `owed` what was still to be written after it, `best` the
    best value of `checkpoint.best` so far, `low` how often in a row the guard has seen too little diversity.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    lines: int = Field(default=0, ge=0)
    owed: list[PendingTask] = []
    best: float | None = Field(default=None, allow_inf_nan=False)
    low: int = Field(default=0, ge=0)


def recorded_in(about: Mapping[str, Any], where: Path) -> Recorded:  # Any: JSON
    """What a checkpoint of the run in a folder says of it. Raises CheckpointError when it does not say."""
    try:
        return Recorded.model_validate(about["recorded"])
    except (KeyError, ValidationError) as error:
        raise CheckpointError(
            f"the newest checkpoint of {where} does not say how far its run was",
            "begin anew from its weights with: gancore train --init-from",
        ) from error


def forget_after(log: Path, step: int, lines: int) -> None:
    """Takes out of a log what came after a step, and all but the first lines of the step itself, and what is torn.

    Raises StorageError when it cannot be written.
    """
    with writing(log):
        content = log.read_bytes() if log.exists() else b""
    kept = b"".join(_known(content, step, lines))
    if kept != content:
        with atomic_write(log) as path:
            path.write_bytes(kept)


def _known(content: bytes, step: int, lines: int) -> Iterator[bytes]:
    for line in content.splitlines(keepends=True):
        at = _step_of(line)
        if at is None or at > step:
            return
        lines -= at == step
        if lines < 0:
            return
        yield line


def _step_of(line: bytes) -> int | None:
    """None for a line that was not written to its end."""
    try:
        step = json.loads(line)["step"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) else None
