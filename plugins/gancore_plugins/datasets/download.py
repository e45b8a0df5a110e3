"""Downloads of published data. A file gets its name only when it is complete and has the published SHA-256."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.request import HTTPRedirectHandler, Request, build_opener

from gancore.utils.atomic import replacing
from gancore_plugins.datasets.published import Release

_TIMEOUT_S = 30.0
"""Seconds without an answer until a download fails."""
_MIN_BYTES_PER_S = 4096
"""The slowest rate over a whole download, so that a server that sends byte by byte cannot delay a run for days."""
_CHUNK = 1 << 18
DOWNLOAD_ERRORS = (OSError, ValueError, HTTPException)
"""What `fetch` raises."""


def fetch(release: Release, name: str, into: Path) -> Iterator[float]:
    """Download a file of a release into a folder, from the first mirror that has it; yield the share that is done.

    The caller holds the lock of the folder (see `gancore.utils.lock.exclusive`). Raise one of DOWNLOAD_ERRORS.
    """
    failures = []
    with replacing(into / name, exclusive=True) as temporary:
        for mirror in release.mirrors:
            try:
                yield from _stream(f"{mirror}{name}", *release.files[name], temporary)
                return
            except DOWNLOAD_ERRORS as error:
                failures.append(f"{mirror}{name}: {error}")
        raise OSError("; ".join(dict.fromkeys(failures)) or f"{name} has no mirror")


@contextmanager
def remove_new_folders_on_error(folder: Path) -> Iterator[None]:
    """If the block raises, remove the folder and those above it that did not exist before, if they are empty."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):
                path.rmdir()
        raise


class _NoDowngrade(HTTPRedirectHandler):
    """Follows redirects, except from https to another scheme."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise OSError(f"the server redirects from https to {newurl}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stream(address: str, sha256: str, size: int, part: Path) -> Iterator[float]:
    """Download the file at an address to `part`; yield the share that is done. Raise OSError if it has other bytes."""
    digest, received, started = hashlib.sha256(), 0, time.monotonic()
    response: HTTPResponse
    with build_opener(_NoDowngrade).open(address, timeout=_TIMEOUT_S) as response, part.open("wb") as file:
        # One byte more than expected detects a longer file; `read1` returns what has arrived without waiting for more.
        while chunk := response.read1(min(_CHUNK, size + 1 - received)):
            received += len(chunk)
            if received > size:
                raise OSError(f"expected {size:,} bytes, received more")
            if time.monotonic() - started > _TIMEOUT_S + received / _MIN_BYTES_PER_S:
                raise OSError(f"only {received:,} bytes arrived in {time.monotonic() - started:.0f} seconds")
            digest.update(chunk)
            file.write(chunk)
            yield received / size
        if received < size:
            raise OSError(f"expected {size:,} bytes, received {received:,}")
        if digest.hexdigest() != sha256:
            raise OSError(f"expected SHA-256 {sha256}, received {digest.hexdigest()}")
