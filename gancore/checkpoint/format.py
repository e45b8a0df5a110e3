"""The bytes of a checkpoint: tensors and a JSON document in one safetensors file, sealed by a digest.

The file is the length of its header in 8 bytes, the header in JSON, and what the tensors hold. The header's metadata
has `sha256`, the digest of the whole file with that digest itself read as zeros, and `gancore`, the document. The
format is small, and is written and read here, not by the library of its name, which reads these files too: so every
operation on the disk is one that can be seen, one tensor at a time is copied to write, only the file's own size is
taken to read, and what is read is held to stricter rules.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gancore.errors import CheckpointError, StorageError

FORMAT = 1
LARGEST_HEADER = 2 * 2**20
"""Bytes of a header at most: some 16,000 tensors, where a large GAN has 5,000 with its moments and its average. Read,
JSON takes up to 30 times its bytes, so this bounds the memory and the time that a hostile file can take."""

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA = "__metadata__"
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')  # within a JSON string its quotes would have backslashes
_BLANK = b"0" * 64
_CHUNK = 2**20
_MOST_DIMENSIONS = 64
_MOST_ELEMENTS = 2**56
_PICKLED = re.compile(rb"\x80[\x01-\x05]|PK\x03\x04|c[\w.]+\n[\w.]+\n|\([(cdltINSV]|[\]}][q(.]")
_ANOTHER = "name another checkpoint of the run"


@dataclass(frozen=True)
class Content:
    """What a file holds: tensors by name, in memory that they share; the document; and the digest of it all."""

    tensors: Mapping[str, Tensor]
    document: Mapping[str, Any]  # Any: JSON
    digest: str


def unfit(tensor: Tensor) -> str | None:
    """Why a tensor cannot be written, if it cannot."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"its layout is {'quantized' if tensor.is_quantized else tensor.layout}"
    if tensor.is_meta:
        return "it holds no values"
    return None if tensor.dtype in _NAMES else f"its dtype is {tensor.dtype}"


def write(descriptor: int, tensors: Mapping[str, Tensor], document: Mapping[str, object]) -> str:
    """Writes to an empty file, and returns the digest; nothing is brought to the disk yet.

    Raises OSError, StorageError for tensors that cannot be written, ValueError for a document that is no finite JSON.
    """
    header = _header(tensors, document)
    hashed = hashlib.sha256()
    contents = (_bytes_of(tensors[name]) for name in _ordered(tensors))
    for content in chain([memoryview(header)], contents):
        hashed.update(content)
        _write(descriptor, content)
    os.lseek(descriptor, header.index(_BLANK), os.SEEK_SET)  # nothing of the user's stands before it
    _write(descriptor, memoryview(hashed.hexdigest().encode()))
    return hashed.hexdigest()


def reads_back(descriptor: int, digest: str) -> bool:
    """Whether the file holds what `write` gave this digest."""
    start = os.pread(descriptor, _CHUNK, 0)
    hashed = hashlib.sha256(start.replace(digest.encode(), _BLANK, 1))
    place = len(start)
    while chunk := os.pread(descriptor, _CHUNK, place):
        hashed.update(chunk)
        place += len(chunk)
    return digest.encode() in start and hashed.hexdigest() == digest


def read(file: io.BufferedReader, path: Path) -> Content:
    """Reads a file from its start, onto the CPU. Raises CheckpointError unless every byte of it is as it was written.

    What the file says of itself is not believed before the digest is seen to fit, and is checked after that too.
    """
    size = os.fstat(file.fileno()).st_size - 8
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if not 2 <= length <= size:
        raise _foreign(file, path, "it is not a whole safetensors file")
    if length > LARGEST_HEADER:
        raise _foreign(file, path, f"its header is said to have {length:,} bytes, and {LARGEST_HEADER:,} are read")
    head += file.read(length)
    size -= length
    seals = _DIGEST.findall(head)
    if len(seals) != 1:
        raise _foreign(file, path, f"its header holds {'no digest' if not seals else 'several digests'}")
    places: dict[str, _Place] = {}
    document: dict[str, Any] = {}  # Any: JSON
    problem = None
    try:
        document, places = _understood(head[8:], seals[0].decode(), size)
    except _NewerError as error:
        problem = CheckpointError(f"{path} {error}", "upgrade gancore")
    except (ValueError, RecursionError) as error:
        problem = CheckpointError(f"{path} is no checkpoint of gancore: {str(error)[:300]}", _ANOTHER)
    hashed = hashlib.sha256(_DIGEST.sub(b'"sha256":"%b"' % _BLANK, head))
    content = bytearray(0 if problem else size)
    if problem is None:
        file.readinto(content)
        hashed.update(content)
    while chunk := file.read(_CHUNK):
        hashed.update(chunk)
    if hashed.hexdigest().encode() != seals[0]:
        raise CheckpointError(
            f"{path} is damaged: its bytes do not have the SHA-256 that was written with them", _ANOTHER
        )
    if problem is not None:
        raise problem
    return Content({name: place.tensor(content) for name, place in places.items()}, document, hashed.hexdigest())


@dataclass(frozen=True)
class _Place:
    dtype: torch.dtype
    shape: list[int]
    begin: int
    end: int

    def tensor(self, content: bytearray) -> Tensor:
        if self.begin == self.end:
            return torch.empty(self.shape, dtype=self.dtype)
        count = (self.end - self.begin) // self.dtype.itemsize
        if self.dtype == torch.bool:  # of which only 0 and 1 are known to be safe
            return (
                torch.frombuffer(content, dtype=torch.uint8, count=count, offset=self.begin).ne(0).reshape(self.shape)
            )
        return torch.frombuffer(content, dtype=self.dtype, count=count, offset=self.begin).reshape(self.shape)


class _NewerError(Exception):
    pass


def _header(tensors: Mapping[str, Tensor], document: Mapping[str, object]) -> bytes:
    about = json.dumps({"format": FORMAT, **document}, allow_nan=False)
    entries: dict[str, object] = {_METADATA: {"sha256": _BLANK.decode(), "gancore": about}}
    end = 0
    for name in _ordered(tensors):
        tensor = tensors[name]
        if reason := "the name is taken" if name == _METADATA else unfit(tensor):
            raise StorageError(f"tensor {name!r} cannot be written: {reason}")
        begin, end = end, end + tensor.numel() * tensor.dtype.itemsize
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise StorageError(
            f"{len(tensors):,} tensors need a header of {len(text):,} bytes; {LARGEST_HEADER:,} are read"
        )
    return len(text).to_bytes(8, "little") + text


def _ordered(tensors: Mapping[str, Tensor]) -> list[str]:
    """The largest elements first, so that each tensor begins where one of its dtype may."""
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))


def _bytes_of(tensor: Tensor) -> memoryview:
    value = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return memoryview(value.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # Python 3.12 names buffers


def _write(descriptor: int, content: memoryview) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _understood(header: bytes, digest: str, size: int) -> tuple[dict[str, Any], dict[str, _Place]]:  # Any: JSON
    """The document, and where in `size` bytes each tensor lies. Raises ValueError for what is not as it must be."""
    entries = _object(header.decode(), "its header")
    metadata = entries.pop(_METADATA, None)
    if not isinstance(metadata, dict) or not isinstance(about := metadata.get("gancore"), str):
        raise ValueError("its header does not say what it is")
    document = _object(about, "what it says of itself")
    found = document.get("format")
    if type(found) is not int or found < 1:
        raise ValueError("it does not tell the version of its format")
    if found > FORMAT:
        raise _NewerError(
            f"has checkpoint format {str(found)[:20]}, and needs a newer gancore: "
            f"this one, {version('gancore')}, reads format {FORMAT}"
        )
    if metadata.get("sha256") != digest:
        raise ValueError("its digest is not in its place")
    places = {name: _place(name, entry) for name, entry in entries.items()}
    end = 0
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != end:
            raise ValueError(f"tensor {_shown(name)} does not begin where the one before it ends")
        end = place.end
    if end != size:
        raise ValueError(f"it holds {size:,} bytes, and its header tells of {end:,}")
    return document, places


def _place(name: str, entry: object) -> _Place:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {_shown(name)} is not described by dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"tensor {_shown(name)} has a dtype that is not known: {_shown(entry['dtype'])}")
    if (
        not _counts(shape)
        or len(shape) > _MOST_DIMENSIONS
        or math.prod(max(each, 1) for each in shape) > _MOST_ELEMENTS
    ):
        raise ValueError(f"tensor {_shown(name)} has a shape that no tensor has: {_shown(shape)}")
    if not _counts(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {_shown(name)} has offsets that are none: {_shown(offsets)}")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize or begin % dtype.itemsize:
        raise ValueError(f"tensor {_shown(name)} has another size than its shape and dtype")
    return _Place(dtype, shape, begin, end)


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each <= _MOST_ELEMENTS for each in value)


def _shown(value: object) -> str:
    """A stranger's word, short and without anything that a terminal would obey."""
    return ascii(value)[:80]


def _object(text: str, what: str) -> dict[str, Any]:  # Any: JSON
    """A JSON object in which no key is twice, which parsers understand differently, and all numbers are finite."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError(f"{what} has a key twice")
        return found

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError(f"{what} holds a number that is not finite")
        return value

    document = json.loads(text, object_pairs_hook=once, parse_constant=finite, parse_float=finite)
    if not isinstance(document, dict):
        raise ValueError(f"{what} is not a JSON object")
    return document


def _foreign(file: io.BufferedReader, path: Path, reason: str) -> CheckpointError:
    """What to say of a file that no seal is looked for in."""
    file.seek(0)
    if _PICKLED.match(file.read(_CHUNK)):
        reason = "it looks like a pickle, which can run code when it is opened, and is not opened"
    return CheckpointError(f"{path} is no checkpoint of gancore: {reason}", _ANOTHER)
