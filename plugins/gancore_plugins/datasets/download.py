"""Downloads of published data: whole and of the published SHA-256, or not there at all."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.request import HTTPRedirectHandler, Request, build_opener

from gancore_plugins.datasets.published import Release

_PATIENCE = 30.0
"""Seconds without an answer."""
_SLOWEST = 4096
"""Bytes a second, on the whole; a server that drips would hold a run for days."""
_CHUNK = 1 << 18
FAILURES = (OSError, ValueError, HTTPException)
"""What a download may raise."""


def fetch(release: Release, name: str, into: Path) -> Iterator[float]:
    """Downloads a file of a release into a folder, from the first mirror that has it; yields the share that is there.

    It has its name only once it is whole, on the disk, and of its SHA-256. Whoever calls sees to it that it is alone
    (see `gancore.utils.files.alone`). Raises one of FAILURES.
    """
    part = into / f".{name}.part"  # always the same, so that one that was left is replaced
    failures = []
    try:
        for mirror in release.mirrors:
            try:
                yield from _stream(f"{mirror}{name}", *release.files[name], part)
            except FAILURES as error:
                failures.append(f"{mirror}{name}: {error}")
                continue
            os.replace(part, into / name)
            return
    finally:
        part.unlink(missing_ok=True)
    raise OSError("; ".join(dict.fromkeys(failures)) or f"there is no mirror of {name}")


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


class _NoDowngrade(HTTPRedirectHandler):
    """Follows redirects, but none away from TLS."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise OSError(f"it redirects to {newurl}, away from TLS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stream(address: str, sha256: str, size: int, part: Path) -> Iterator[float]:
    """The file at an address, of these bytes; no more of it is read, or kept, than it may have."""
    digest, seen, begun = hashlib.sha256(), 0, time.monotonic()
    answer: HTTPResponse
    with build_opener(_NoDowngrade).open(address, timeout=_PATIENCE) as answer, part.open("wb") as file:
        # One byte more than there should be shows what goes on. Whatever has arrived is taken at once.
        while chunk := answer.read1(min(_CHUNK, size + 1 - seen)):
            seen += len(chunk)
            if seen > size:
                raise OSError(f"it must have {size:,} bytes, and goes on after them")
            if time.monotonic() - begun > _PATIENCE + seen / _SLOWEST:
                raise OSError(f"only {seen:,} bytes came in {time.monotonic() - begun:.0f} seconds")
            digest.update(chunk)
            file.write(chunk)
            yield seen / size
        if seen < size:
            raise OSError(f"it must have {size:,} bytes, and ended after {seen:,}")
        if digest.hexdigest() != sha256:
            raise OSError(f"its SHA-256 must be {sha256}, and is {digest.hexdigest()}")
        file.flush()
        os.fsync(file.fileno())
