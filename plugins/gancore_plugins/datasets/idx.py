"""IDX files, the format of MNIST: big-endian sizes and then the array's bytes, plain or gzipped.

A header is 0, 0, the type's code, the number of dimensions, and one unsigned 32-bit size for each dimension. A file
is data from anywhere: memory is bounded by what the header declares, and that by a limit.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from gancore.errors import DataError
from gancore.utils.files import regular

if TYPE_CHECKING:
    from torch import Tensor

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 18
_INTACT = "replace the file by an intact copy"


class _Stream(Protocol):
    def read(self, count: int, /) -> bytes: ...


def read_idx(path: Path, *, dims: int, limit: int = 1 << 30) -> Tensor:
    """The array of `dims` dimensions in the file `path`: uint8, of the shape that its header declares.

    Raise DataError when the file cannot be read, is damaged, goes on after the array, holds another type or number of
    dimensions, or declares more than `limit` bytes.
    """
    try:
        with regular(path) as file:
            begin = file.read(len(_GZIP))
            file.seek(0)
            if begin != _GZIP:
                return _read(file, path, dims, limit, os.fstat(file.fileno()).st_size)
            return _read(_Inflated(file), path, dims, limit, None)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: an IDX file must be readable to its end; received: {error}", _INTACT) from error


def _read(stream: _Stream, path: Path, dims: int, limit: int, size: int | None) -> Tensor:
    """The array in `stream`; `size` is that of the whole file, where it is known in advance."""
    import torch

    magic = bytes((0, 0, _UNSIGNED_BYTE, dims))
    length = len(magic) + 4 * dims
    header = _read_up_to(stream, length)
    if header[: len(magic)] != magic:
        received = header[: len(magic)].hex(" ") or "an empty file"
        if header.lstrip()[:1] == b"<":
            received += ", as a web page does, not data"
        raise DataError(
            f"{path}: an IDX file of unsigned bytes in {dims} dimensions begins with {magic.hex(' ')}; "
            f"received {received}",
            "check that this is the right file, and intact",
        )
    if len(header) < length:
        raise DataError(f"{path}: the header takes {length} bytes; received {len(header)}", _INTACT)

    shape = struct.unpack(f">{dims}I", header[len(magic) :])
    total = math.prod(shape)
    # A size of zero must not hide the others, which torch cannot represent when they are absurd.
    if math.prod(max(1, number) for number in shape) > limit:
        raise DataError(f"{path}: an array takes at most {limit} bytes; the header declares {_shown(shape)}", _INTACT)
    if size is not None and size != length + total:
        raise DataError(
            f"{path}: the header declares {_shown(shape)}, hence a file of {length + total} bytes; received {size}",
            _INTACT,
        )

    # One byte more than declared: it shows bytes that trail, and takes a gzip stream to its checksum.
    data = _read_up_to(stream, total + 1)
    if len(data) != total:
        received = f"more than {total}" if len(data) > total else str(len(data))
        raise DataError(
            f"{path}: the header declares {_shown(shape)}, which takes {total} bytes; received {received}", _INTACT
        )
    if total == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(data, dtype=torch.uint8).reshape(shape)


class _Inflated:
    """What is in a gzip file of one stream: read piece by piece, to its checksum, with nothing after it.

    The module gzip would go through the fields of a header byte by byte, and through any number of empty streams.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflate = file, zlib.decompressobj(wbits=31)

    def read(self, count: int) -> bytes:
        """At least one byte and at most `count`; none at the end."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            data = self._inflate.decompress(packed, count)
            if data:
                return data
            if not packed and not self._inflate.eof:
                raise EOFError("the compressed stream is cut off")
        if self._inflate.unused_data or self._file.read(1):
            raise OSError("something follows the compressed stream")
        return b""


def _read_up_to(stream: _Stream, count: int) -> bytearray:
    """The next `count` bytes, or fewer at the end. It grows with what arrives, not with what was declared."""
    data = bytearray()
    while len(data) < count and (chunk := stream.read(min(_CHUNK, count - len(data)))):
        data += chunk
    return data


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
