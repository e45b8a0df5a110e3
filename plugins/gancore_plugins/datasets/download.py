"""Downloads of published data: whole and checked, or not there at all."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

_PATIENCE = 30.0  # seconds without an answer
FAILURES = (OSError, RuntimeError, ValueError, HTTPException)
"""What a download may raise."""


def fetch(addresses: Sequence[str], md5: str, into: Path) -> None:
    """Downloads a file from the first address that has it, checked by its MD5; its folder is made.

    A download that is cut off, or that runs twice at once, leaves no half file. Raises one of FAILURES.
    """
    from torchvision.datasets.utils import download_url

    into.parent.mkdir(parents=True, exist_ok=True)
    # Standard output belongs to the program's results; torchvision tells its progress there or not, as it likes.
    with TemporaryDirectory(prefix=".download-", dir=into.parent) as spare, redirect_stdout(sys.stderr), _patience():
        failures = []
        for address in addresses:
            try:
                download_url(address, spare, into.name, md5)
                break
            except FAILURES as error:
                failures.append(str(error))
        else:
            raise OSError("; ".join(dict.fromkeys(failures)))
        os.replace(Path(spare, into.name), into)


@contextmanager
def unmade(folder: Path) -> Iterator[None]:
    """Where the block fails, folders that were not there before, down to this one, are taken away again if empty."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):
                path.rmdir()
        raise


@contextmanager
def _patience() -> Iterator[None]:
    """A time limit for servers that do not answer: torchvision sets none, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
