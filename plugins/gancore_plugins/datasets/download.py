"""Downloads of published files. A file gets its name only when it is complete and has the published SHA-256.

Until then it is `.NAME.part`. What has arrived when a connection is lost or the process ends is kept there, and the
next download continues after it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPMessage, HTTPResponse
from io import FileIO
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from gancore.errors import StorageError
from gancore.utils.atomic import move, writing
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

    The caller holds the lock of the folder (see `gancore.utils.lock.exclusive`). Raise one of DOWNLOAD_ERRORS, or
    StorageError when the file cannot be written.
    """
    failures, part = [], _part_of(into / name)
    for mirror in release.mirrors:
        try:
            yield from _stream(f"{mirror}{name}", *release.files[name], part)
        except DOWNLOAD_ERRORS as error:
            failures.append(f"{mirror}{name}: {_reason(error)}")
            continue
        with writing(into / name):
            move(part, into / name)
        return
    raise OSError("; ".join(dict.fromkeys(failures)) or f"{name} has no mirror")


def _reason(error: Exception) -> object:
    """Return why a download failed, without the words that urllib puts around it."""
    reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return getattr(reason, "strerror", None) or reason


def size_of_part(path: Path) -> int:
    """Return how many bytes of a file have arrived in a download that has not ended."""
    return _size_of(_part_of(path))


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


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


class _WrongBytesError(OSError):
    """What arrived is not the published file."""


def _stream(address: str, sha256: str, size: int, part: Path) -> Iterator[float]:
    """Download the file at an address to `part`, or the rest of it; yield the share that is done.

    Raise OSError if that fails. `part` is then removed if it has other bytes, none, or cannot be written.
    """
    kept = _size_of(part)
    try:
        if 0 < kept < size:
            try:
                yield from _receive(address, sha256, size, part, kept)
                return
            except (_WrongBytesError, HTTPError):  # it is of another file, or the server cannot send the rest
                pass
        yield from _receive(address, sha256, size, part, 0)
    except BaseException as error:
        if isinstance(error, _WrongBytesError | StorageError) or not _size_of(part):
            with suppress(OSError):  # the first error is the one to report
                part.unlink(missing_ok=True)
        raise


def _receive(address: str, sha256: str, size: int, part: Path, kept: int) -> Iterator[float]:
    """Download what follows the first `kept` bytes, which `part` has; all, if the server sends all."""
    digest, started = hashlib.sha256(), time.monotonic()
    request = Request(address, headers={"Range": f"bytes={kept}-"} if kept else {})  # noqa: S310  # an address of ours
    response: HTTPResponse
    with build_opener(_NoDowngrade).open(request, timeout=_TIMEOUT_S) as response:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {kept}-"):
            kept = 0
        received, promised = kept, response.length
        with writing(part):
            file = part.open("r+b" if kept else "wb", buffering=0)  # so that close() writes nothing and cannot fail
        with file:
            while file.tell() < kept:
                digest.update(file.read(min(_CHUNK, kept - file.tell())))
            # One byte more than expected detects a longer file; `read1` returns what has arrived without waiting.
            while chunk := response.read1(min(_CHUNK, size + 1 - received)):
                received += len(chunk)
                if received > size:
                    raise _WrongBytesError(f"expected {size:,} bytes, received more")
                seconds = time.monotonic() - started
                if seconds > _TIMEOUT_S + (received - kept) / _MIN_BYTES_PER_S:
                    raise OSError(f"only {received - kept:,} bytes arrived in {seconds:.0f} seconds")
                digest.update(chunk)
                with writing(part):
                    _write(file, chunk)
                yield received / size
    if received < size:
        kind = OSError if promised == size - kept else _WrongBytesError
        raise kind(f"expected {size:,} bytes, received {received:,}")
    if digest.hexdigest() != sha256:
        raise _WrongBytesError(f"expected SHA-256 {sha256}, received {digest.hexdigest()}")


def _write(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
