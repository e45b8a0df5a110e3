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
from typing import Any

from torch import Tensor

from gancore.checkpoint import format as tensorfile
from gancore.checkpoint import schema as runform
from gancore.errors import CheckpointError, StorageError
from gancore.utils.atomic import flush

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


@dataclass(frozen=True)
class Verdict:
    """What is seen of one file: its step and its size in bytes, as far as they can be told, and why it is not sound."""

    path: Path
    step: int | None
    size: int | None
    problem: str | None


def places(path: Path) -> list[Path]:
    """The checkpoints of a run directory or a folder, oldest first and then the best one, or the file itself.

    Raises CheckpointError when nothing is at the path.
    """
    if not path.is_dir():
        return [path]
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    best = best_of(folder)
    return [*kept(folder), *([best] if _is_regular(best) else [])]


def look(path: Path) -> Verdict:
    """Reads the checkpoint of a run as a whole, to say whether it is sound."""
    try:
        size = path.stat().st_size
    except OSError:
        size = None
    try:
        saved = load_run(path)
        step = int(saved.about["progress"]["step"])
        _check_name(path, step)
    except CheckpointError as error:
        return Verdict(path, None, size, str(error))
    return Verdict(path, step, size, None)


def newest_valid(folder: Path) -> Found:
    """The newest checkpoint of a run in a folder that is sound, and why newer ones are not.

    None counts that is whole but of another step than its name says. Nothing is changed. Raises StorageError when the
    folder cannot be read.
    """
    rejected: list[tuple[Path, str]] = []
    for path in reversed(kept(folder)):
        try:
            saved = load_run(path)
            _check_name(path, saved.about["progress"]["step"])
        except CheckpointError as error:
            rejected.append((path, str(error)))
        else:
            return Found(saved, path, tuple(rejected))
    return Found(None, None, tuple(rejected))


def _check_name(path: Path, step: int) -> None:
    if _NAME.fullmatch(path.name) and path.name != path_of(path.parent, step).name:
        raise CheckpointError(f"{path} is a checkpoint of step {step} under another name", _ANOTHER)


def remove_temporary_files(folder: Path) -> list[Path]:
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
        flush(path.parent)  # a name is durable once its folder is
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
    if problem := runform.problem(saved.about):
        raise CheckpointError(f"{path} does not describe a run: {problem}", _ANOTHER)
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
