"""The log of a run that goes back: what it says of steps that are to be made again is taken out."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gancore.errors import StorageError


def forget_after(log: Path, step: int) -> None:
    """Takes the lines of later steps out of a log, and a torn one; it is whole at every moment.

    Raises StorageError when it cannot be written.
    """
    temporary = log.with_name(f".{log.name}.{os.getpid()}.tmp")
    try:
        if not log.exists():
            return
        lines = log.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) == len(lines):
            return
        try:
            with temporary.open("wb") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, log)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {log}: {error.strerror}", "free some space, or mend the folder") from error


def _step_of(line: bytes) -> float:
    """The step that a line is about: infinity if it is torn, or not a line of a log."""
    if not line.endswith(b"\n"):
        return float("inf")
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
