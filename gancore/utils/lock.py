"""Locks between processes. The kernel releases a lock when its process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock


@contextmanager
def lock_file(path: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of a file in the block. The file holds the process ID, and is removed after the block.

    Creates the folder. Processes that this one forks do not hold the lock. Raises `filelock.Timeout` when another
    process holds it for `timeout` seconds, if that is not negative; OSError when the file cannot be created or the file
    system has no locks.
    """

    def write_process_id(descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError:  # the disk is full: leave no empty file
            path.unlink(missing_ok=True)
            raise

    lock = FileLock(path, timeout=timeout, fallback_to_soft=False, on_acquired=write_process_id)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
            break
        except FileNotFoundError:  # the last owner failed, and removed the folder that it had created
            continue
    try:
        yield
    finally:
        # Removed while it is held: a process that waits finds that the file is gone, and creates another.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Let one process at a time create the target; the others wait. Creates the folder. Raises OSError."""
    with lock_file(target.with_name(f".{target.name}.lock")):
        yield
