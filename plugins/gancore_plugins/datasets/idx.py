"""IDX files, the format of MNIST: a header with big-endian sizes, then the array's bytes; plain or gzipped.

A header is 0, 0, the type's code, the number of dimensions, and an unsigned 32-bit size for each dimension. A file may
be damaged or hostile: it takes no more memory than it declares, and may not declare more than a limit.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from torch import Tensor

from gancore.errors import DataError
from gancore.utils.files import regular

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 18
_INTACT = "replace the file with an intact copy"


class _Stream(Protocol):
    def read(self, count: int, /) -> bytes: ...


def read_idx(path: Path, *, dims: int, limit: int = 1 << 30) -> Tensor:
    """Return the array of `dims` dimensions in the file `path`: uint8, of the shape that its header declares.

    Raise DataError if the file cannot be read, is damaged, holds more than the array, has another type or number of
    dimensions, or declares more than `limit` bytes.
    """
    try:
        with regular(path) as file:
            zipped = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            return _read_array(_GzipStream(file) if zipped else file, path, dims, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as an IDX file: {error}", _INTACT) from error


def _read_array(stream: _Stream, path: Path, dims: int, limit: int) -> Tensor:
    """Return the array in `stream`; `path` is for messages."""
    magic = bytes((0, 0, _UNSIGNED_BYTE, dims))
    length = len(magic) + 4 * dims
    header = _read_up_to(stream, length)
    if header[: len(magic)] != magic:
        received = header[: len(magic)].hex(" ") or "an empty file"
        if header.lstrip()[:1] == b"<":
            received += ", which is a web page"
        raise DataError(
            f"{path}: an IDX file of unsigned bytes in {dims} dimensions begins with {magic.hex(' ')}; "
            f"received {received}",
            "check that this is the right file, and intact",
        )
    if len(header) < length:
        raise DataError(f"{path}: the header takes {length} bytes; received {len(header)}", _INTACT)

    shape = struct.unpack(f">{dims}I", header[len(magic) :])
    declared = f"the header declares {'x'.join(map(str, shape))}"
    # If one size is zero, the others are checked too, since torch cannot represent very large ones.
    if math.prod(max(1, size) for size in shape) > limit:
        raise DataError(f"{path}: an array may take at most {limit} bytes; {declared}", _INTACT)

    total = math.prod(shape)
    data = _read_up_to(stream, total + 1)  # one byte more detects trailing bytes, and checks the checksum of gzip
    if len(data) != total:
        received = f"more than {total}" if len(data) > total else str(len(data))
        raise DataError(f"{path}: {declared}, which takes {total} bytes; received {received}", _INTACT)
    if total == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(data, dtype=torch.uint8).reshape(shape)


class _GzipStream:
    """The content of a gzip file with one stream, checked against its checksum, with nothing after it.

    The module gzip would parse a header byte by byte, however long, and accept any number of empty streams.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflate = file, zlib.decompressobj(wbits=31)

    def read(self, count: int) -> bytes:
        """Return 1 to `count` bytes, or b"" at the end."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            data = self._inflate.decompress(packed, count)
            if data:
                return data
            if not packed and not self._inflate.eof:
                raise EOFError("the compressed stream is cut off")
        if self._inflate.unused_data or self._file.read(1):
            raise OSError("there are bytes after the compressed stream")
        return b""


def _read_up_to(stream: _Stream, count: int) -> bytearray:
    """Return the next `count` bytes, fewer at the end. Memory grows with the bytes that arrive, not with `count`."""
    data = bytearray()
    while len(data) < count and (chunk := stream.read(min(_CHUNK, count - len(data)))):
        data += chunk
    return data
