"""The lock of a run directory: one process at a time trains in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from gancore.errors import InUseError, StorageError
from gancore.utils.atomic import HINT
from gancore.utils.files import regular
from gancore.utils.lock import lock_file

LOCK = ".lock"
"""The file in the locked folder. It stays behind when a process is killed, but then locks nothing."""
_TIMEOUT_S = 0.5
"""A process that was forked when its parent was killed may hold the lock for a moment, until it closes its copy."""


@contextmanager
def locked(folder: Path, made: Sequence[Path] = ()) -> Iterator[None]:
    """Lock the folder in the block. It is created if it is missing, and removed again if it is still empty.

    So are the folders above it, and those that the caller has `made`, innermost first. Raises InUseError when another
    process holds the lock, StorageError when the folder cannot be written to.
    """
    made = [*made, *missing_folders(folder)]
    with ExitStack() as stack:
        stack.callback(remove_empty, made)
        try:
            stack.enter_context(lock_file(folder / LOCK, timeout=_TIMEOUT_S))
        except Timeout as error:
            raise InUseError(
                f"{folder} is in use by {_owner(folder / LOCK)}", "wait for it, stop it, or name another folder"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot write to {folder}: {error.strerror}", f"{HINT}, or name another") from error
        yield


def holder_of(folder: Path) -> str | None:
    """Return who holds the lock of the folder, such as `process 123`; None if it is not locked. Changes nothing."""
    path = folder / LOCK
    try:
        with regular(path) as file:
            # Shared, so that two who ask do not block each other; a run waits `_TIMEOUT_S`, longer than this is held.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(path)
    except OSError:  # no such file, or a file system without locks
        return None
    return None


def missing_folders(folder: Path) -> list[Path]:
    """Return the folder and those above it that do not exist, innermost first."""
    return [path for path in (folder, *folder.parents) if not os.path.lexists(path)]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove those of the folders that exist and are empty, in this order."""
    for path in folders:
        with suppress(OSError):  # not empty, or never made
            path.rmdir()


def _owner(path: Path) -> str:
    try:
        return f"process {int(path.read_text())}"
    except (OSError, ValueError):
        return "another process"
