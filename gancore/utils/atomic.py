"""Atomic writing: a path holds a complete file, or what was there before."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from gancore.errors import StorageError

HINT = "check that the folder exists, is writable, and has free space"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise StorageError, which names the path, in place of an OSError from the block."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write to {path}: {error.strerror or error}", HINT) from error


@contextmanager
def replacing(path: Path, *, exclusive: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield the path of a temporary file in the same folder, which replaces `path` after the block.

    The block creates and writes the temporary file. Its content is on the disk before the rename, and the new name
    after it. If the block or the rename fails, the temporary file is removed and `path` stays as it was.

    With `exclusive` the caller holds a lock for the path. The temporary file then always has the same name, so that the
    next writer overwrites what a killed process left; otherwise see `remove_temporary_files`. Without `durable` nothing
    is flushed: faster for many files, but a power failure may lose them. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.part") if exclusive else temporary_name(path)
    try:
        yield temporary
        move(temporary, path, durable=durable)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise


def temporary_name(path: Path) -> Path:
    """Return a new name for a temporary file in the folder of the path; see `is_temporary_file`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def move(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Let a file in the same folder replace `path`, as `replacing` does after its block. Raises OSError."""
    if durable:
        flush(temporary)
    os.replace(temporary, path)
    if durable:
        flush(path.parent)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Do the same as `replacing`, but raise StorageError when the file cannot be written."""
    with writing(path), replacing(path) as temporary:
        yield temporary


def flush(path: Path) -> None:
    """Bring the content of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary_file(name: str, of: str) -> bool:
    """Return whether `atomic_write` gives such names to temporary files, for a path whose name matches the pattern."""
    return re.fullmatch(rf"\.(?:{of})\.[0-9a-f]{{16}}\.tmp", name) is not None


def hold(descriptor: int) -> None:
    """Lock an open temporary file or folder until it is closed, so that `remove_abandoned` leaves it."""
    with suppress(OSError):  # not every file system has locks
        flock(descriptor, LOCK_EX)


def remove_abandoned(path: Path) -> None:
    """Remove the temporary files and folders of a path that no process holds: they are of killed processes.

    What cannot be removed stays. Raises OSError when the folder of the path cannot be read.
    """
    for left in path.parent.iterdir():
        if not is_temporary_file(left.name, re.escape(path.name)) or left.is_symlink():
            continue
        if not left.is_file() and not left.is_dir():
            continue
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()
            finally:
                os.close(descriptor)


def remove_temporary_files(folder: Path, of: str) -> list[Path]:
    """Remove the temporary files that killed processes left in a folder, and return their paths.

    Only regular files are removed, and only those of a path whose name matches the pattern `of`. No other process may
    be writing such a path. Raises StorageError when one cannot be removed.
    """
    with writing(folder):
        found = [path for path in folder.iterdir() if is_temporary_file(path.name, of)] if folder.is_dir() else []
        found = sorted(path for path in found if path.is_file() and not path.is_symlink())
        for path in found:
            path.unlink(missing_ok=True)
    return found
