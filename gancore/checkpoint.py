"""Checkpoints: one file each, whole or not there, that tells by itself whether it is sound; and folders of them.

Nothing in a file is ever executed. `tensorfile` says what its bytes are.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from torch import Tensor

from gancore import tensorfile
from gancore.errors import CheckpointError, StorageError

SUFFIX = ".safetensors"
_NAME = re.compile(r"step-([0-9]{8}|[1-9][0-9]{8,})\.safetensors")
_LITTER = re.compile(rf"\.(?:{_NAME.pattern}|best\.safetensors)\.[0-9a-f]{{16}}\.tmp")
_ANOTHER = "name another checkpoint of the run"


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
        raise StorageError(f"cannot read folder {folder}: {error.strerror or error}", "mend the folder") from error


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
    Raises StorageError when the file cannot be written, or reads back as something else, or when something that is no
    file lies at the path.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise StorageError(f"cannot save checkpoint {path}: something that is no file has its name", "move it away")
        try:
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                digest = tensorfile.write(descriptor, tensors, about)
                os.fsync(descriptor)
                if not tensorfile.reads_back(descriptor, digest):
                    raise StorageError(f"checkpoint {path} does not read back as it was written", "look at the disk")
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):  # what went wrong first is what is told
                temporary.unlink(missing_ok=True)
            raise
        _flush(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot save checkpoint {path}: {error.strerror or error}", "free some space, or mend the folder"
        ) from error


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU. Raises CheckpointError unless every byte of it is as it was written."""
    if path.suffix.lower() in {".pt", ".pth", ".ckpt", ".pkl", ".pickle"}:
        raise CheckpointError(
            f"{path} is refused by its name: pickled files can run code when they are opened",
            f"gancore's checkpoints end in {SUFFIX}",
        )
    try:
        # A pipe would be waited for, and a device has no end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CheckpointError(f"{path} is no file, and no checkpoint", _ANOTHER)
            content = tensorfile.read(file, path)
    except OSError as error:
        raise CheckpointError(
            f"cannot read checkpoint {path}: {error.strerror or error}",
            "name a run directory, or a file in its checkpoints/",
        ) from error
    except MemoryError as error:
        raise CheckpointError(f"{path} is larger than the memory that is left") from error
    return Checkpoint(content.tensors, content.document, content.digest)


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
        raise StorageError(f"cannot remove {path}: {error.strerror or error}", "mend the folder") from error


def _is_regular(path: Path) -> bool:
    """Whether it is a file itself, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # gone since
        return False


def _flush(folder: Path) -> None:
    """A name is durable once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
