"""Reading untrusted files: only regular files are opened."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def regular(path: Path, *, links: bool = True) -> Iterator[BinaryIO]:
    """Open a file for reading in the block. Raises OSError when it cannot be opened or is not a regular file.

    Without `links`, a symbolic link is no regular file.
    """
    added = getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))
    # Not blocking: to open a pipe would wait for its writer. Checked after opening: the path may change before.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | added)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        yield file


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore warnings in the block, such as those of Pillow about damaged files, also where warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def some(problems: Sequence[str], most: int = 3, count: int | None = None) -> str:
    """Return the first few of a list as text, and how many more there are, of `count` if not all are in the list."""
    more = (len(problems) if count is None else count) - most
    return "; ".join(problems[:most]) + (f", and {more:,} more" if more > 0 else "")
