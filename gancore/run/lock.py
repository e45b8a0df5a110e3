"""One process at a time: a lock that the kernel holds, and lets go when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gancore.errors import InUseError, StorageError

LOCK = ".lock"
"""The file's name in the folder that is locked. It stays where a process was killed, and means nothing by itself."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made if it must be, is this process's for the time of the block.

    The lock is POSIX's, of the process: `flock`, which filelock takes, would pass on to forked loader workers, and
    outlive a run that was killed. Raises InUseError when another process has it, StorageError when it cannot be had.
    """
    path = folder / LOCK
    try:
        ours = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path)
    except BlockingIOError as error:
        raise InUseError(
            f"{folder} is in use by {_owner(path)}", "wait for it, stop it, or name another folder"
        ) from error
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror}", "mend the folder, or name another") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
        if ours:
            with suppress(OSError):
                folder.rmdir()  # where nothing came of it


def _opened(path: Path) -> int:
    """The file, locked, with our number in it. Raises BlockingIOError when somebody else has locked it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last owner removed it just now


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    try:
        return f"process {int(path.read_text())}"
    except (OSError, ValueError):
        return "another process"
