"""Reading untrusted files: only regular files are opened."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NAMED = 3
"""Number of problems that an error lists."""


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading in the block. Raises OSError when it cannot be opened or is not a regular file."""
    # Not blocking: to open a pipe would wait for its writer. Checked after opening: the path may change before.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        yield file


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore warnings in the block, such as those of Pillow about damaged files, also where warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def some(problems: list[str]) -> str:
    """Return the first few of a list as text, and how many more there are."""
    more = f", and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return "; ".join(problems[:_NAMED]) + more
