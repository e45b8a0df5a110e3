"""Weights that a run starts with: of a checkpoint, or of a plain state dict in a safetensors file or in torch's format.

`torch.load(weights_only=True)` builds tensors and plain containers only, and executes nothing. An archive may not
unpack to more than its bytes, which is checked before; of other files, the sum of the tensors is checked after.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancore.checkpoint.format import LARGEST_HEADER, escaped, parse_tensors, with_valid_bools
from gancore.checkpoint.store import load_run, select
from gancore.errors import CheckpointError
from gancore.utils.files import regular

LARGEST_FILE = 64 * 2**30
"""Maximum size of a file in bytes."""
_LARGEST_PICKLE = 16 * 2**20
"""Maximum size in bytes of what describes the tensors of a file in torch's format: names, shapes and optimizers."""
_MOST_ENTRIES = 100_000
_MOST_DEPTH = 6
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_ZIP = b"PK\x03\x04"
_CONVERT = (
    "if you trust the file, save its tensors alone, in Python: x = torch.load({name!r}, weights_only=False); "
    "torch.save(x.state_dict() if hasattr(x, 'state_dict') else "
    "{{k: v for k, v in x.items() if isinstance(v, (dict, torch.Tensor))}}, 'weights.pth')"
)
_EXPORT = "save weights with torch.save(network.state_dict(), 'weights.pth'), or as a safetensors file"


@dataclass(frozen=True)
class StoredWeights:
    """The tensors of a file by name; those of nested state dicts have names such as `g_ema.0.weight`.

    `digest` is that of a checkpoint, or the SHA-256 of the file. `about` describes the run that a checkpoint is of; it
    is empty for a plain state dict. `warnings` name newer checkpoints of a run that are not valid.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    digest: str
    about: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    warnings: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether this is a state dict without a description of its run."""
        return not self.about


def read_weights(path: Path) -> StoredWeights:
    """Read the newest valid checkpoint of a run directory, a checkpoint, or a plain state dict; tensors are on the CPU.

    The content of a file decides its format. Raises CheckpointError when it is missing or damaged, would take more
    memory than its size, or holds objects other than tensors and plain containers.
    """
    if path.is_dir():
        chosen = select(path)
        saved = chosen.checkpoint
        return StoredWeights(chosen.path, saved.tensors, saved.digest, saved.about, chosen.warnings)
    try:
        with regular(path) as file:
            size, start = os.fstat(file.fileno()).st_size, file.read(9)
            if size > LARGEST_FILE:
                raise CheckpointError(f"{path} has {size:,} bytes; the most is {LARGEST_FILE:,}", _EXPORT)
            # A safetensors file begins with the length of its header, whose bytes may be those of a pickle.
            is_torch = start[:4] == _ZIP or (start[:1] == b"\x80" and start[8:9] != b"{")
            length = min(int.from_bytes(start[:8], "little"), LARGEST_HEADER)
            if not is_torch and _is_checkpoint(start[8:] + file.read(length)):
                saved = load_run(path)
                return StoredWeights(path, saved.tensors, saved.digest, saved.about)
            file.seek(0)
            content = file.read(size)
        tensors = _of_torch(content, path) if is_torch else _of_safetensors(content, path)
        if not tensors:
            raise CheckpointError(f"{path} holds no tensors", _EXPORT)
        total, most = sum(value.numel() * value.itemsize for value in tensors.values()), 4 * size + 2**20
        if total > most:
            raise CheckpointError(f"the tensors of {path} have {total:,} bytes, and the file has {size:,}", _EXPORT)
        digest = hashlib.sha256(content).hexdigest()
        return StoredWeights(path, with_valid_bools({name: value.detach() for name, value in tensors.items()}), digest)
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror or error}", "name a run directory, a checkpoint, or a state dict"
        ) from error
    except MemoryError as error:
        raise CheckpointError(f"{path} is larger than the free memory") from error


def _is_checkpoint(header: bytes) -> bool:
    """Return whether a header of a safetensors file, whole or cut, has the entry of a checkpoint of gancore."""
    return b'"gancore"' in header and b'"sha256"' in header


def _of_safetensors(content: bytes, path: Path) -> dict[str, Tensor]:
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= len(content) - 8:
        raise CheckpointError(
            f"{path} is neither a complete safetensors file nor a state dict in torch's format", _EXPORT
        )
    if length > LARGEST_HEADER:
        raise CheckpointError(f"{path}: its header has {length:,} bytes; the most is {LARGEST_HEADER:,}", _EXPORT)
    try:
        return parse_tensors(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged, or no safetensors file: {error}", _EXPORT) from error


def _of_torch(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of `torch.save`."""
    if content[:4] == _ZIP:
        _check_archive(content, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about storages of old versions
            value = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # damaged files raise anything
        if found := _GLOBAL.search(str(error)):
            raise CheckpointError(
                f"{path} holds {escaped(found[1])} besides tensors, and is not opened: such a file can run code",
                _CONVERT.format(name=str(path)),
            ) from error
        raise CheckpointError(f"{path} is damaged, or no file of torch.save: {escaped(error)}", _EXPORT) from error
    if isinstance(value, Tensor):
        raise CheckpointError(f"{path} holds one tensor without a name, not a state dict", _EXPORT)
    return dict(_named_tensors(value, path))


def _check_archive(content: bytes, path: Path) -> None:
    """Raise CheckpointError for an archive that unpacks to more than its bytes, and for a compiled model."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged, or no file of torch.save: {escaped(error)}", _EXPORT) from error
    if any(entry.filename.endswith(("constants.pkl", ".py")) for entry in entries):
        raise CheckpointError(
            f"{path} is a compiled model (TorchScript), which can run code when it is opened",
            f"if you trust the file, save its weights in Python: model = torch.jit.load({str(path)!r}); "
            "torch.save(dict(model.state_dict()), 'weights.pth')",
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or len(entries) > _MOST_ENTRIES:
        raise CheckpointError(f"{path} is a compressed archive, and no file of torch.save", _EXPORT)
    pickles = [entry.file_size for entry in entries if entry.filename.endswith("data.pkl")]
    if sum(entry.file_size for entry in entries) > len(content) or max(pickles, default=0) > _LARGEST_PICKLE:
        raise CheckpointError(f"{path} unpacks to more than a state dict may", _EXPORT)


def _named_tensors(value: object, path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dicts; everything else, such as step counts, is left out."""
    waiting: list[tuple[str, object, int]] = [("", value, 0)]
    count = 0
    while waiting:
        prefix, value, depth = waiting.pop()
        count += 1
        if count > _MOST_ENTRIES or depth > _MOST_DEPTH:
            raise CheckpointError(f"{path} holds more entries than a state dict may", _EXPORT)
        if type(value) in (Tensor, nn.Parameter):
            tensor: Tensor = value  # type: ignore[assignment]  # checked above
            if tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta:
                yield prefix or "tensor", tensor
        elif isinstance(value, Mapping):
            if len(value) > _MOST_ENTRIES:
                raise CheckpointError(f"{path} holds more entries than a state dict may", _EXPORT)
            inside = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items() if _is_key(key)]
            waiting += [(name, item, depth + 1) for name, item in reversed(inside)]


def _is_key(key: object) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and 0 < len(key) <= 500)
