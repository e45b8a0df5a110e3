"""Checkpoints: one safetensors file each, whole or not there, that tells by itself whether it is sound.

The header's metadata holds `gancore`, a JSON document (format version, resolved config, progress, shapes, versions),
and `sha256`, the digest of the whole file with that digest itself read as zeros. Nothing in a file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors
import safetensors.torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from torch import Tensor

from gancore.errors import CheckpointError, StorageError

FORMAT = 1
SUFFIX = ".safetensors"
_NAME = re.compile(r"step-([0-9]{8}|[1-9][0-9]{8,})\.safetensors")
_LITTER = re.compile(rf"\.(?:{_NAME.pattern}|best\.safetensors)\.[0-9a-f]{{16}}\.tmp")
_BLANK = "0" * 64
_ANOTHER = "name another checkpoint of the run"
_LARGEST_HEADER = 100_000_000  # the limit of safetensors itself, checked before anything is read


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: `tensors` by name, and `about`, the JSON document (see `save`); `digest` is its own."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]  # Any: JSON
    digest: str


_Count = Annotated[int, Field(ge=0, le=2**53)]
_Size = Annotated[int, Field(ge=1, le=2**31)]
_Shown = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]


def _vector_or_image(shape: list[int]) -> list[int]:
    if len(shape) not in (1, 3):
        raise ValueError("a shape is [F] or [C, H, W]")
    return shape


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Progress(_Form):
    step: _Count
    images_seen: _Count
    seconds: Annotated[float, Field(ge=0)]


class _MadeWith(_Form):
    plugins: dict[_Shown, _Shown]


class _RunForm(_Form):
    """What must be in the checkpoint of a run; there may be more."""

    config: dict[str, Any]  # Any: read by who resolves it
    shape: Annotated[list[_Size], AfterValidator(_vector_or_image)]
    num_classes: _Size | None
    progress: _Progress
    made_with: _MadeWith


@dataclass(frozen=True)
class Found:
    """The newest sound checkpoint of a folder and its path, or None; and the newer ones that are not sound.

    Of those `rejected` has the path and a sentence that names it and says why, the newest first.
    """

    checkpoint: Checkpoint | None
    path: Path | None
    rejected: tuple[tuple[Path, str], ...] = ()


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return folder / f"step-{step:08d}{SUFFIX}"


def best_of(folder: Path) -> Path:
    """Where the best checkpoint by a metric is kept, beside the newest ones."""
    return folder / f"best{SUFFIX}"


def kept(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first. Links and foreign files are none."""
    steps = _steps(folder)
    return [steps[step] for step in sorted(steps)]


def _steps(folder: Path) -> dict[int, Path]:
    return {
        int(match[1]): path for path in _listed(folder) if (match := _NAME.fullmatch(path.name)) and _is_regular(path)
    }


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise StorageError(f"cannot read folder {folder}: {error.strerror}", "mend the folder") from error


def newest(path: Path, *, best: bool = False) -> Path:
    """The newest checkpoint of a run directory, or its best one, or the file itself.

    Raises CheckpointError when there is none.
    """
    if best and path.is_file():
        raise CheckpointError(f"the best of a run's checkpoints is wanted; {path} is one", "name the run's directory")
    if not path.is_dir():
        return path
    if best:
        found_best = [file for file in (best_of(path / "checkpoints"), best_of(path)) if file.is_file()]
        if not found_best:
            raise CheckpointError(
                f"no best checkpoint was kept in {path}", "train with --set checkpoint.best=METRIC, or leave --best out"
            )
        return found_best[0]
    found = kept(path / "checkpoints") or kept(path)
    if not found:
        raise CheckpointError(f"there is no checkpoint in {path}", "name a run directory, like runs/0001")
    return found[-1]


def newest_sound(folder: Path) -> Found:
    """The newest checkpoint of a run in a folder that is sound, and why newer ones are not.

    None counts that is whole but of another step than its name says. Nothing is changed. Raises StorageError when the
    folder cannot be read.
    """
    rejected: list[tuple[Path, str]] = []
    for path in reversed(kept(folder)):
        try:
            saved = load_run(path)
        except CheckpointError as error:
            rejected.append((path, str(error)))
            continue
        step = saved.about["progress"]["step"]
        if path == path_of(folder, step):
            return Found(saved, path, tuple(rejected))
        rejected.append((path, f"{path} is a checkpoint of step {step} under another name"))
    return Found(None, None, tuple(rejected))


def clear_litter(folder: Path) -> list[Path]:
    """Removes what saves left in a folder that were killed, and says what it was.

    That is regular files under the names that `save` itself gives; all else stays. No other process may be saving here.
    Raises StorageError when one cannot be removed.
    """
    litter = [path for path in _listed(folder) if _LITTER.fullmatch(path.name) and _is_regular(path)]
    for path in litter:
        _remove(path)
    return litter


def save(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Writes a checkpoint so that at every moment the path holds a whole file or what was there before.

    The bytes are on the disk, and were read back, before the file gets its name.
    Raises StorageError when the file cannot be written, or reads back as something else.
    """
    metadata = {"gancore": json.dumps({"format": FORMAT, **about}, allow_nan=False), "sha256": _BLANK}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            safetensors.torch.save_file(_storable(tensors), temporary, metadata)
            temporary.chmod(mode)  # safetensors makes files that only their owner reads; the user's umask decides
            _stamp(temporary)
            _verified(temporary.read_bytes(), temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, safetensors.SafetensorError) as error:
        raise StorageError(f"cannot save checkpoint {path}: {error}", "free some space, or mend the folder") from error
    except CheckpointError as error:
        raise StorageError(f"checkpoint {path} does not read back as it was written: {error}") from error


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU. Raises CheckpointError unless every byte of it is as it was written."""
    if path.suffix.lower() in {".pt", ".pth", ".ckpt", ".pkl", ".pickle"}:
        raise CheckpointError(
            f"{path} is refused by its name: pickled files can run code when they are opened",
            f"gancore's checkpoints end in {SUFFIX}",
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read checkpoint {path}: {error.strerror}", "name a run directory, or a file in its checkpoints/"
        ) from error
    return _verified(content, path)


def load_run(path: Path) -> Checkpoint:
    """As `load`, of a file that must be the checkpoint of a run.

    `about` then holds `config`, a dict; `shape`, one or three sizes; `num_classes`, 1 or more, or None; `progress` with
    `step`, `images_seen` and `seconds`, 0 or more and finite; and `made_with`, with `plugins` and their versions.
    Raises CheckpointError otherwise.
    """
    saved = load(path)
    try:
        _RunForm.model_validate(saved.about)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path} does not describe a run: {place[:100]!r}: {first['msg']}", _ANOTHER) from error
    return saved


def prune(folder: Path, keep: int, saved: int | None = None) -> None:
    """Removes all but the newest `keep` checkpoints; of later steps than `saved` none counts, and none is removed.

    `saved` is the step that was saved last: after falling back to an older checkpoint, what is newer may be damaged.
    Raises StorageError when one cannot be removed.
    """
    steps = _steps(folder)
    for step in sorted(step for step in steps if saved is None or step <= saved)[:-keep]:
        _remove(steps[step])


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror}", "mend the folder") from error


def _is_regular(path: Path) -> bool:
    """Whether it is a file itself, and no link to one."""
    return stat.S_ISREG(path.lstat().st_mode)


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU and contiguous, and no two in one storage, which the format refuses."""
    seen: set[int] = set()
    stored = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        if value.numel() and storage in seen:
            value = value.clone()
        seen.add(storage)
        stored[name] = value
    return stored


def _stamp(path: Path) -> None:
    """Puts the digest into the header, and everything onto the disk."""
    with path.open("r+b") as file:
        start = _digest_place(file.read(8 + _header_length(path)), path)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(start)
        file.write(digest.encode())
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """A name is durable once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header_length(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(8), "little")


def _digest_place(head: bytes, path: Path) -> int:
    match = re.search(rb'"sha256":"([0-9a-f]{64})"', head)
    if not match:
        raise CheckpointError(f"{path} is no checkpoint of gancore: its header holds no digest", _ANOTHER)
    return match.start(1)


def _verified(content: bytes, path: Path) -> Checkpoint:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(_LARGEST_HEADER, len(content) - 8):
        raise CheckpointError(f"{path} is no checkpoint: it is not a whole safetensors file", _ANOTHER)
    start = _digest_place(content[: 8 + length], path)
    digest = hashlib.sha256(content[:start])
    digest.update(_BLANK.encode())
    digest.update(memoryview(content)[start + 64 :])
    if digest.hexdigest().encode() != content[start : start + 64]:
        raise CheckpointError(
            f"{path} is damaged: its bytes do not have the SHA-256 that was written with them", _ANOTHER
        )
    try:
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["gancore"])
        version = about["format"]
        tensors = safetensors.torch.load(content)
    except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of gancore: {type(error).__name__}: {error}", _ANOTHER
        ) from error
    if version != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {version}, and this gancore reads format {FORMAT}", "upgrade gancore"
        )
    return Checkpoint(tensors, about, digest.hexdigest())
