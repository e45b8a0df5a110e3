"""Files that are whole or not there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gancore.errors import StorageError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong in this block went wrong while writing to the path."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write to {path}: {error.strerror}", "free some space, or choose another --out"
        ) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Another name to write to in this block. The path gets the file after it, once the content is on the disk.

    Raises StorageError when it cannot be written; what was at the path is there then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Everything in a file, or every name in a folder, is on the disk after this."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary_file(name: str, of: str) -> bool:
    """Whether `atomic_write` gives such a name, for a file whose own name fits the pattern."""
    return re.fullmatch(rf"\.(?:{of})\.\d+\.tmp", name) is not None


def remove_temporary_files(folder: Path, of: str) -> None:
    """Removes what a process that was killed has not written to its end, of files whose names fit the pattern.

    Links and foreign files stay.
    """
    with writing(folder):
        for path in folder.iterdir() if folder.is_dir() else ():
            if is_temporary_file(path.name, of) and path.is_file() and not path.is_symlink():
                path.unlink(missing_ok=True)
