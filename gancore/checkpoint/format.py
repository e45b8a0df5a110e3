"""The bytes of a checkpoint: a safetensors file with a JSON document and a digest in its metadata.

The package `safetensors` writes and parses the tensors. The metadata entry `gancore` is the document; `sha256` is the
SHA-256 of the document and of the name, dtype, shape and data of every tensor. Nothing in a file is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from gancore.errors import CheckpointError, StorageError

FORMAT = 1
LARGEST_HEADER = 2 * 2**20
"""Maximum size of a header in bytes: about 16,000 tensors. A large GAN has 5,000, with its moments and its average.
Parsed JSON takes up to 30 times its bytes, so this bounds the memory and the time that a hostile file can take."""

_METADATA = "__metadata__"
_PICKLE = re.compile(rb"\x80[\x01-\x05]|PK\x03\x04|c[\w.]+\n[\w.]+\n|\([(cdltINSV]|[\]}][q(.]")
ANOTHER = "name another checkpoint of the run"


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: `tensors` by name; `about`, the JSON document; and the `digest` of both."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]  # Any: JSON
    digest: str


def why_not_storable(tensor: Tensor) -> str | None:
    """Return why a tensor cannot be written, or None if it can."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"its layout is {'quantized' if tensor.is_quantized else tensor.layout}"
    if tensor.is_meta:
        return "it holds no values"
    return None if _is_storable(tensor.dtype) else f"its dtype is {tensor.dtype}"


@cache
def _is_storable(dtype: torch.dtype) -> bool:
    try:
        content = safetensors.torch.save({"tensor": torch.empty(0, dtype=dtype)})
        return safetensors.torch.load(content)["tensor"].dtype == dtype
    except (KeyError, SafetensorError):
        return False


def encode(tensors: Mapping[str, Tensor], document: Mapping[str, object]) -> bytes:
    """Return the bytes of a file. Takes twice their size in memory, and once more to copy tensors of a GPU.

    Raises StorageError for tensors that cannot be written, ValueError for a document that is not finite JSON.
    """
    about = json.dumps({"format": FORMAT, **document}, allow_nan=False)
    for name, tensor in tensors.items():
        if reason := "the name is reserved" if name == _METADATA else why_not_storable(tensor):
            raise StorageError(f"tensor {name!r} cannot be written: {reason}")
    plain = _plain(tensors)
    content = safetensors.torch.save(plain, {"gancore": about, "sha256": _digest(plain, about)})
    if (length := int.from_bytes(content[:8], "little")) > LARGEST_HEADER:
        raise StorageError(
            f"{len(tensors):,} tensors need a header of {length:,} bytes; the most is {LARGEST_HEADER:,}"
        )
    return content


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, contiguous and without shared memory."""
    plain: dict[str, Tensor] = {}
    storages = set[int]()
    for name, tensor in tensors.items():
        value = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        plain[name] = value.clone() if storage in storages else value
        storages.add(storage)
    return plain


def _digest(tensors: Mapping[str, Tensor], about: str) -> str:
    hashed = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hashed.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def decode(file: BinaryIO, path: Path) -> Checkpoint:
    """Read a file from its start, onto the CPU. It takes at most twice the size of the file in memory.

    Raises CheckpointError unless the document and every tensor are as they were written.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= size - 8:
        raise _not_a_checkpoint(file, path, "it is not a complete safetensors file")
    if length > LARGEST_HEADER:
        raise _not_a_checkpoint(file, path, f"its header has {length:,} bytes; the most is {LARGEST_HEADER:,}")
    try:
        metadata = json_object(file.read(length).decode()).get(_METADATA)
        about, digest = (metadata.get(key) if isinstance(metadata, dict) else None for key in ("gancore", "sha256"))
        if not isinstance(about, str) or not isinstance(digest, str):
            raise ValueError("its metadata has no entries gancore and sha256")
        document = json_object(about)
        format_version = document.get("format")
        if type(format_version) is not int or format_version < 1:
            raise ValueError("its document has no format version")
    except (ValueError, RecursionError) as error:
        raise _not_a_checkpoint(file, path, escaped(error)) from error
    if format_version > FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {str(format_version)[:20]}, and needs a newer gancore: "
            f"this one, {version('gancore')}, reads format {FORMAT}",
            "upgrade gancore",
        )
    file.seek(0)
    try:
        tensors = parse_tensors(file.read(size))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged, or no checkpoint of gancore: {error}", ANOTHER) from error
    if _digest(tensors, about) != digest:
        raise CheckpointError(f"{path} is damaged: its content does not have the SHA-256 in its metadata", ANOTHER)
    return Checkpoint(with_valid_bools(tensors), document, digest)


def parse_tensors(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file. Raises ValueError, in printable ASCII, when they are not as it says."""
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(escaped(error)) from error


def with_valid_bools(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file without undefined values: only 0 and 1 are safe values of a bool."""
    return {name: t.view(torch.uint8).ne(0) if t.dtype == torch.bool else t for name, t in tensors.items()}


def json_object(text: str) -> dict[str, Any]:  # Any: JSON
    """Return a JSON object. Raises ValueError if a key is there twice, or a number is not finite."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("its header has the same key twice")  # which parsers understand differently
        return found

    document = json.loads(text, object_pairs_hook=unique)
    json.dumps(document, allow_nan=False)  # raises ValueError for numbers that are not finite
    if not isinstance(document, dict):
        raise ValueError("its header is not a JSON object")
    return document


def _not_a_checkpoint(file: BinaryIO, path: Path, reason: str) -> CheckpointError:
    file.seek(0)
    if _PICKLE.match(file.read(2**20)):
        reason = "it looks like a pickle, which can run code when it is opened, and is not opened"
    return CheckpointError(f"{path} is no checkpoint of gancore: {reason}", ANOTHER)


def escaped(text: object) -> str:
    """Return the text in one line of printable ASCII, since it may quote the file."""
    return ascii(" ".join(str(text).split()))[1:-1][:300]
