"""Folders with an exported generator, `config.json` and `model.safetensors`, read as untrusted input.

`gancore.utils.model_folder` writes them. Nothing in them is executed, and they cause no import.
"""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from torch import Tensor

from gancore.checkpoint.format import LARGEST_HEADER, Checkpoint, escaped, json_object, parse_tensors, with_valid_bools
from gancore.checkpoint.store import DataFormat, Selected
from gancore.errors import CheckpointError
from gancore.training.ema import short
from gancore.utils.files import regular
from gancore.utils.model_folder import CONFIG, FORMAT, LIBRARY, WEIGHTS

_AGAIN = "export it again, or download it again"
_MOST_WEIGHTS = 4 << 30
"""Bytes of the largest file of weights: a billion numbers, as float32."""
_MOST_CLASSES = 1 << 16
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Weights(_Form):
    file: Literal["model.safetensors"]
    sha256: _Digest


class _About(_Form):
    """The fields that `about` must have; it may have more."""

    step: Annotated[int, Field(ge=0, le=2**53)]
    kimg: Annotated[float, Field(ge=0, le=2**50)]
    averaged: bool
    half_life_kimg: Annotated[float, Field(gt=0)] | None = None
    checkpoint: _Digest
    recipe: _Text | None
    gancore: _Text
    torch: _Text
    python: _Text
    plugins: dict[_Text, _Text]
    needs: list[dict[str, Any]]  # Any: validated when the plugins are looked up


class _Document(_Form):
    config: dict[str, Any]  # Any: validated when the config is resolved
    data_format: DataFormat
    about: _About
    weights: _Weights

    @model_validator(mode="after")
    def _check_classes(self) -> _Document:
        if len(self.data_format.classes) > _MOST_CLASSES:
            raise ValueError(f"it names more than {_MOST_CLASSES:,} classes")
        return self


def is_model_folder(path: Path) -> bool:
    """Return whether a path is an exported generator: a folder with one of its two files and no checkpoints, or a file.

    A file counts if it is one of the two, next to the other.
    """
    if path.name in (CONFIG, WEIGHTS) and not path.is_dir():
        path = path.parent
        return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()
    if not path.is_dir() or (path / "checkpoints").is_dir():
        return False
    return (path / CONFIG).is_file() or (path / WEIGHTS).is_file()


def read_model_folder(path: Path, *, raw: bool = False, best: bool = False, ema: float | None = None) -> Selected:
    """Return the content of a folder in the form of a checkpoint, which holds the generator alone.

    Its `about` has `config`, `data_format`, `progress` without seconds, `made_with`, `origin`, `averaged`, whether the
    weights are the EMA, its `half_life_kimg`, and `checkpoint`, the SHA-256 of the one that they are from. The path is
    that of the weights, and the digest the SHA-256 of that file. Raises CheckpointError for a folder that is damaged or
    from elsewhere, and when other weights are asked for than it holds.
    """
    folder = path if path.is_dir() else path.parent
    if best:
        raise CheckpointError(
            f"--best takes a run directory, not an exported generator: {folder}", "leave --best out, or name the run"
        )
    document = read_config(folder / CONFIG)
    about = document["about"]
    if raw and about["averaged"]:
        raise CheckpointError(f"{folder} holds only the averaged weights (EMA)", "leave --raw out, or name the run")
    half_life = about.get("half_life_kimg")
    if ema is not None and half_life != ema:
        held = "the current weights" if not about["averaged"] else "one average (EMA)"
        held += "" if half_life is None else f", with a half-life of {short(half_life)} kimg"
        raise CheckpointError(f"{folder} holds only {held}", "leave --ema out, or name the run")
    prefix = "ema." if about["averaged"] else "generator."
    weights = _read_weights(folder / WEIGHTS, document["weights"]["sha256"])
    saved = {
        "config": document["config"],
        "data_format": document["data_format"],
        "progress": {"step": about["step"], "images_seen": round(about["kimg"] * 1000)},
        "made_with": {key: about[key] for key in ("gancore", "torch", "python", "plugins", "needs")},
        "origin": {"recipe": about["recipe"]},
        "averaged": about["averaged"],
        "half_life_kimg": half_life,
        "checkpoint": about["checkpoint"],
    }
    tensors = {f"{prefix}{name}": value for name, value in weights.items()}
    return Selected(folder / WEIGHTS, Checkpoint(tensors, saved, document["weights"]["sha256"]))


def read_config(path: Path) -> dict[str, Any]:  # Any: JSON
    """Return what config.json holds. Raises CheckpointError unless it describes a generator of gancore."""
    content = _read(path, LARGEST_HEADER)
    try:
        document = json_object(content.decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {escaped(error)}", _AGAIN) from error
    form, library = document.get("format"), document.get("library_name")
    if library != LIBRARY or type(form) is not int or form < 1:
        whose = f": it is of {escaped(library)}" if isinstance(library, str) and library != LIBRARY else ""
        raise CheckpointError(
            f"{path} does not describe a generator of gancore{whose}",
            "name a folder that was exported in the format hub",
        )
    if form > FORMAT:
        raise CheckpointError(
            f"{path} has format {str(form)[:20]}, and needs a newer gancore: this one, {version('gancore')}, reads "
            f"format {FORMAT}",
            "upgrade gancore",
        )
    try:
        _Document.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:100]
        raise CheckpointError(f"{path} is damaged: {place!a}: {first['msg']}", _AGAIN) from error
    return document


def _read_weights(path: Path, digest: str) -> dict[str, Tensor]:
    content = _read(path, _MOST_WEIGHTS)
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(f"{path} is damaged: it does not have the SHA-256 in {CONFIG}", _AGAIN)
    length = int.from_bytes(content[:8], "little")
    if length > LARGEST_HEADER:
        raise CheckpointError(f"{path} has a header of {length:,} bytes; the most is {LARGEST_HEADER:,}", _AGAIN)
    try:
        return with_valid_bools(parse_tensors(content))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}", _AGAIN) from error


def _read(path: Path, most: int) -> bytes:
    """Return the content of a file of at most this many bytes."""
    try:
        with regular(path) as file:
            is_large = os.fstat(file.fileno()).st_size > most
            content = b"" if is_large else file.read(most + 1)
    except OSError as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise CheckpointError(f"cannot read {path}: {reason}", _AGAIN) from error
    except MemoryError as error:
        raise CheckpointError(f"{path} is larger than the free memory") from error
    if is_large or len(content) > most:
        raise CheckpointError(
            f"{path} is larger than {most:,} bytes", "name a folder that was exported in the format hub"
        )
    return content
