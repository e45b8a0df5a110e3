"""Checkpoints, each in one file that can be verified by itself, and folders of them. `format` defines the bytes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gancore.checkpoint import schema
from gancore.checkpoint.format import ANOTHER, decode, encode
from gancore.checkpoint.format import Checkpoint as Checkpoint
from gancore.errors import CheckpointError, StorageError
from gancore.utils import atomic
from gancore.utils.atomic import HINT, atomic_write

SUFFIX = ".safetensors"
_NAME = re.compile(r"step-([0-9]{8}|[1-9][0-9]{8,})\.safetensors")
_CHUNK = 2**20


@dataclass(frozen=True)
class Found:
    """The newest valid checkpoint of a folder and its path, or None; and the newer ones that are not valid.

    `rejected` lists the newest first: the path of each, and a sentence that names it and says why.
    """

    checkpoint: Checkpoint | None
    path: Path | None
    rejected: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Verification:
    """The result of reading one file: its step and size in bytes, None if unknown, and why it is not valid, if so."""

    path: Path
    step: int | None
    size: int | None
    problem: str | None


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return folder / f"step-{step:08d}{SUFFIX}"


def best_of(folder: Path) -> Path:
    """Return the path of the best checkpoint by a metric, which is in the same folder as the newest ones."""
    return folder / f"best{SUFFIX}"


def kept(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first, without links and other files."""
    steps = _steps(folder)
    return [steps[step] for step in sorted(steps)]


def _steps(folder: Path) -> dict[int, Path]:
    try:
        files = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise StorageError(f"cannot read folder {folder}: {error.strerror or error}", HINT) from error
    return {int(match[1]): path for path in files if (match := _NAME.fullmatch(path.name)) and _is_regular(path)}


def newest(path: Path, *, best: bool = False) -> Path:
    """Return the newest checkpoint of a run directory, or its best one; of a file, the file itself.

    Raises CheckpointError when it is missing.
    """
    if best and path.is_file():
        raise CheckpointError(f"--best takes a run directory, not a checkpoint file: {path}", "name the run directory")
    if not path.is_dir():
        return path
    if best:
        found_best = [file for file in (best_of(path / "checkpoints"), best_of(path)) if file.is_file()]
        if not found_best:
            raise CheckpointError(
                f"there is no best checkpoint in {path}", "train with --set checkpoint.best=METRIC, or leave --best out"
            )
        return found_best[0]
    found = kept(path / "checkpoints") or kept(path)
    if not found:
        raise CheckpointError(f"there is no checkpoint in {path}", "name a run directory, like runs/0001")
    return found[-1]


def find_checkpoints(path: Path) -> list[Path]:
    """Return the checkpoints of a run directory or a folder, oldest first and then the best one; or the file itself."""
    if not path.is_dir():
        return [path]
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    best = best_of(folder)
    return [*kept(folder), *([best] if _is_regular(best) else [])]


def verify(path: Path) -> Verification:
    """Read all of the checkpoint of a run, and return whether it is valid."""
    try:
        size = path.stat().st_size
    except OSError:
        size = None
    try:
        saved = _load_named(path)
    except CheckpointError as error:
        return Verification(path, None, size, str(error))
    return Verification(path, int(saved.about["progress"]["step"]), size, None)


def newest_valid(folder: Path) -> Found:
    """Return the newest valid checkpoint of a run in a folder, and why newer ones are not valid.

    A checkpoint of another step than its name says is not valid. Changes nothing. Raises StorageError when the folder
    cannot be read.
    """
    rejected: list[tuple[Path, str]] = []
    for path in reversed(kept(folder)):
        try:
            return Found(_load_named(path), path, tuple(rejected))
        except CheckpointError as error:
            rejected.append((path, str(error)))
    return Found(None, None, tuple(rejected))


def _load_named(path: Path) -> Checkpoint:
    """Load the checkpoint of a run. Raises CheckpointError also when its name says another step."""
    saved = load_run(path)
    step = saved.about["progress"]["step"]
    if _NAME.fullmatch(path.name) and path.name != path_of(path.parent, step).name:
        raise CheckpointError(f"{path} is a checkpoint of step {step} under another name", ANOTHER)
    return saved


def remove_temporary_files(folder: Path) -> list[Path]:
    """Remove what killed processes left in a folder while they saved, and return the paths.

    Removes only regular files with the names of temporary files of `save`. No other process may be saving here. Raises
    StorageError when one cannot be removed.
    """
    return atomic.remove_temporary_files(folder, rf"{_NAME.pattern}|best\.safetensors")


def save(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Write a checkpoint atomically: at every moment the path holds a complete file, or what was there before.

    The bytes are on the disk, and were read back, before the file gets its name. Raises StorageError when the file
    cannot be written or reads back differently, or when the path is a link, a folder or another special file.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise StorageError(f"cannot save checkpoint {path}: it exists and is not a regular file", "move it away")
    content = encode(tensors, about)
    with atomic_write(path) as temporary:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            written = 0
            while written < len(content):
                written += os.write(descriptor, memoryview(content)[written:])
            os.fsync(descriptor)
            for start in range(0, len(content), _CHUNK):
                if os.pread(descriptor, _CHUNK, start) != content[start : start + _CHUNK]:
                    raise StorageError(f"checkpoint {path} does not read back as it was written", "check the disk")
        finally:
            os.close(descriptor)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises CheckpointError unless its content is as it was written."""
    if path.suffix.lower() in {".pt", ".pth", ".ckpt", ".pkl", ".pickle"}:
        raise CheckpointError(
            f"{path} is refused by its name: pickled files can run code when they are opened",
            f"checkpoints of gancore end in {SUFFIX}",
        )
    try:
        # Not blocking: to open a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CheckpointError(f"{path} is not a regular file", ANOTHER)
            return decode(file, path)
    except OSError as error:
        raise CheckpointError(
            f"cannot read checkpoint {path}: {error.strerror or error}",
            "name a run directory, or a file in its checkpoints/",
        ) from error
    except MemoryError as error:
        raise CheckpointError(f"{path} is larger than the free memory") from error


def load_run(path: Path) -> Checkpoint:
    """Load a file that must be the checkpoint of a run.

    `about` then holds `config`, a dict; `shape`, one or three sizes; `num_classes`, 1 or more, or None; `progress` with
    `step`, `images_seen` and `seconds`, 0 or more and finite; and `made_with`, with `plugins` and their versions.
    Raises CheckpointError otherwise.
    """
    saved = load(path)
    if problem := schema.problem(saved.about):
        raise CheckpointError(f"{path} does not describe a run: {problem}", ANOTHER)
    return saved


def prune(folder: Path, keep: int, saved: int | None = None) -> None:
    """Remove all but the newest `keep` checkpoints. Those of later steps than `saved` are not counted, and stay.

    `saved` is the last step that was saved: after a fallback to an older checkpoint, newer ones may be damaged. Raises
    StorageError when one cannot be removed.
    """
    steps = _steps(folder)
    for step in sorted(step for step in steps if saved is None or step <= saved)[:-keep]:
        try:
            steps[step].unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {steps[step]}: {error.strerror or error}", HINT) from error


def _is_regular(path: Path) -> bool:
    """Return whether the path is a regular file itself, and not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # removed since
        return False
