"""Checkpoints, each in one file that can be verified by itself, and folders of them. `format` defines the bytes."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from torch import Tensor

from gancore.checkpoint.format import ANOTHER, decode, encode
from gancore.checkpoint.format import Checkpoint as Checkpoint
from gancore.errors import CheckpointError, StorageError
from gancore.utils import atomic
from gancore.utils.atomic import HINT, atomic_write
from gancore.utils.files import regular
from gancore.utils.paths import name_a_run, shell_quote

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

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to say of the newer ones, if there is a valid one."""
        return tuple(f"{reason}; {self.path.name} is used" for _, reason in self.rejected) if self.path else ()


@dataclass(frozen=True)
class Selected:
    """A checkpoint of a run that was asked for, its path, and warnings about newer ones that are not valid."""

    path: Path
    checkpoint: Checkpoint
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """The result of reading one file: its step and size in bytes, None if unknown, and why it is not valid, if so.

    `sha256` is the digest of its content, which it holds itself, not that of the file; None unless it is valid.
    """

    path: Path
    step: int | None
    size: int | None
    problem: str | None
    sha256: str | None = None


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return folder / f"step-{step:08d}{SUFFIX}"


def best_of(folder: Path) -> Path:
    """Return the path of the best checkpoint by a metric, which is in the same folder as the newest ones."""
    return folder / f"best{SUFFIX}"


def kept(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first: files, and links to files, which may be damaged."""
    return [path for path in _named(folder) if os.path.isfile(path)]


def _named(folder: Path) -> list[Path]:
    """Return whatever has the name of a checkpoint, oldest first: also folders, pipes, and links to nowhere."""
    try:
        found = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise StorageError(f"cannot read folder {folder}: {error.strerror or error}", HINT) from error
    return sorted((path for path in found if _NAME.fullmatch(path.name)), key=step_of)


def step_of(path: Path) -> int:
    """Return the step of a checkpoint, by its name."""
    return int(path.stem.removeprefix("step-"))


def check_replaceable(path: Path) -> None:
    """Raise StorageError when the path is neither a file nor a link, and so is not replaced when it is written."""
    if os.path.lexists(path) and not os.path.isfile(path) and not path.is_symlink():
        kind = "a folder" if os.path.isdir(path) else "a special file"
        raise StorageError(f"cannot write {path}: it is {kind}", "move it away")


def check_folder(folder: Path, after: int) -> None:
    """Raise StorageError when a checkpoint after a step, or the best one, cannot be saved under its name."""
    for path in [*(path for path in _named(folder) if step_of(path) > after), best_of(folder)]:
        check_replaceable(path)


def select(path: Path, *, best: bool = False) -> Selected:
    """Return the newest valid checkpoint of a run directory, or its best one; or that at the path of a file.

    Newer ones that are not valid are named in `warnings`. Raises CheckpointError when there is no valid one, and when a
    file or the best checkpoint is not valid.
    """
    if best and path.is_file():
        raise CheckpointError(f"--best takes a run directory, not a checkpoint file: {path}", "name the run directory")
    if not os.path.lexists(path) and not path.suffix:
        raise CheckpointError(f"there is no run in {path}", name_a_run())
    if not path.is_dir():
        return Selected(path, load_run(path))
    folders = (path / "checkpoints", path)
    if best:
        for file in map(best_of, folders):
            if os.path.lexists(file):
                try:
                    return Selected(file, load_run(file))
                except CheckpointError as error:
                    hint = "leave --best out for the newest checkpoint"
                    raise CheckpointError(f"the best checkpoint is not valid: {error}", hint) from error
        hint = "train with --set checkpoint.best=METRIC, or leave --best out"
        raise CheckpointError(f"there is no best checkpoint in {path}", hint)
    rejected: list[str] = []
    for folder in folders:
        found = newest_valid(folder)
        if found.checkpoint is not None and found.path is not None:
            return Selected(found.path, found.checkpoint, found.warnings)
        rejected += [reason for _, reason in found.rejected]
    if rejected:
        raise CheckpointError(f"there is no valid checkpoint in {path}: {'; '.join(rejected)}", "name another run")
    raise CheckpointError(f"there is no checkpoint in {path}", _hint_without_checkpoint(path))


def _hint_without_checkpoint(path: Path) -> str:
    """Return what helps where a folder has no checkpoint: a run begins, or begins anew if its checkpoints are gone."""
    if not (path / "config.toml").is_file():
        return name_a_run()
    with suppress(OSError):
        if (path / "metrics.jsonl").stat().st_size:
            return f"its checkpoints are gone; train it again: gancore train {shell_quote(path / 'config.toml')}"
    return f"it has not begun; train it: gancore resume {shell_quote(path)}"


def find_checkpoints(path: Path) -> list[Path]:
    """Return the checkpoints of a run directory or a folder, oldest first and then the best one; or the file itself.

    Whatever has the name of a checkpoint is one of them, also a folder or a link to nowhere.
    """
    if not path.is_dir():
        return [path]
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    return [*_named(folder), *filter(os.path.lexists, [best_of(folder)])]


def verify(path: Path) -> Verification:
    """Read all of the checkpoint of a run, and return whether it is valid."""
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError:
        size = None
    try:
        saved = _load_named(path)
        return Verification(path, saved.about["progress"]["step"], size, None, saved.digest)
    except CheckpointError as error:
        return Verification(path, None, size, str(error))


def newest_valid(folder: Path | str) -> Found:
    """Return the newest valid checkpoint of a run in a folder, and why newer ones are not valid.

    A link to a valid file is valid; whatever else has the name of a checkpoint is not, and neither is a checkpoint of
    another step than its name says. Changes nothing. Raises StorageError when the folder cannot be read.
    """
    rejected: list[tuple[Path, str]] = []
    for path in reversed(_named(Path(folder))):
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

    The bytes are on the disk, and were read back, before the file gets its name. A link is replaced, and not the file
    that it points to. Raises StorageError when the file cannot be written or reads back differently, or when the path
    is a folder or a special file.
    """
    check_replaceable(path)
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


def load(path: Path | str) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises CheckpointError unless its content is as it was written."""
    path = Path(path)
    if path.suffix.lower() in {".pt", ".pth", ".ckpt", ".pkl", ".pickle"}:
        raise CheckpointError(
            f"{path} is refused by its name: pickled files can run code when they are opened",
            f"checkpoints of gancore end in {SUFFIX}",
        )
    try:
        with regular(path) as file:
            return decode(file, path)
    except OSError as error:
        reason = error.strerror or str(error)
        if path.is_symlink() and not os.path.exists(path):
            reason = f"it is a link to {path.readlink()}, which cannot be followed: {reason}"
        raise CheckpointError(
            f"cannot read checkpoint {path}: {reason}",
            "name a run directory, or a file in its checkpoints/",
        ) from error
    except MemoryError as error:
        raise CheckpointError(f"{path} is larger than the free memory") from error


_MOST_VALUES = 1 << 28
"""Values of the largest sample, and of the largest condition: 1 GiB as float32."""
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Size = Annotated[int, Field(ge=1, le=2**31)]
_Shown = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Progress(_Form):
    step: _Count
    images_seen: _Count
    seconds: Annotated[float, Field(ge=0)]


class _MadeWith(_Form):
    plugins: dict[_Shown, _Shown]


class _Scales(_Form):
    shape: Annotated[list[_Size], Field(max_length=16)]
    means: list[float]
    stds: list[Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _check_lengths(self) -> _Scales:
        if not len(self.means) == len(self.stds) == math.prod(self.shape):
            raise ValueError("as many means and standard deviations as the shape has values")
        return self


class DataFormat(_Form):
    """What the samples and conditions of a generator are like; see `Feed.describe`."""

    shape: Annotated[list[_Size], Field(min_length=1, max_length=16)]
    condition: _Size | Annotated[list[_Size], Field(min_length=1, max_length=16)] | None
    classes: list[str]
    class_counts: list[_Count] = []
    dtype: Literal["uint8", "float32"]
    value_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    scales: _Scales | None = None
    columns: list[str] = []
    mirrors: bool

    @model_validator(mode="after")
    def _check_shapes(self) -> DataFormat:
        scales = [] if self.scales is None else self.scales.shape
        if len(scales) > len(self.shape) or any(
            one not in (1, size) for one, size in zip(reversed(scales), reversed(self.shape), strict=False)
        ):
            raise ValueError("the shape of the scales cannot be broadcast to that of a sample")
        if self.columns and self.shape != [len(self.columns)]:
            raise ValueError("there must be one column for each value of a vector")
        for size in (self.shape, self.condition):
            if isinstance(size, list) and math.prod(size) > _MOST_VALUES:
                raise ValueError(f"a sample or condition has at most {_MOST_VALUES:,} values")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError("the lower end of the value range comes first")
        return self


class _Run(_Form):
    """The fields that the checkpoint of a run must have; it may have more."""

    config: dict[str, Any]  # Any: validated when the config is resolved
    data_format: DataFormat
    progress: _Progress
    made_with: _MadeWith


def load_run(path: Path | str) -> Checkpoint:
    """Load a file that must be the checkpoint of a run.

    `about` then holds `config`, a dict; `data_format`, which describes samples and conditions; `progress` with `step`,
    `images_seen` and `seconds`, 0 or more and finite; and `made_with`, with `plugins` and their versions. Raises
    CheckpointError otherwise.
    """
    saved = load(path)
    try:
        _Run.model_validate(saved.about)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:100]
        raise CheckpointError(f"{path} does not describe a run: {place!a}: {first['msg']}", ANOTHER) from error
    return saved


def prune(folder: Path, keep: int, saved: int | None = None, damaged: Collection[Path] = ()) -> None:
    """Remove the checkpoints that are older than the newest `keep`.

    Neither those after step `saved` are counted nor `damaged` ones: after a fallback to an older checkpoint, newer ones
    are not valid. Of a link only the link is removed. Folders and other special files stay. Raises StorageError when
    one cannot be removed.
    """
    found = [path for path in kept(folder) if saved is None or step_of(path) <= saved]
    counted = [path for path in found if path not in damaged][-keep:]
    for path in found[: found.index(counted[0])] if counted else []:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {path}: {error.strerror or error}", HINT) from error
