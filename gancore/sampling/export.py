"""Exports of trained generators: what an exporter receives, and the safe way of its files to their place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gancore.catalog.isolation import preserve_process_state
from gancore.checkpoint.format import json_object
from gancore.config.data_paths import with_paths
from gancore.errors import ConfigError, StorageError, blame
from gancore.exporters import ExportedGenerator, Exporter, Facts
from gancore.sampling.grid import is_picture, picture, png_bytes
from gancore.utils.atomic import HINT, flush, hold, remove_abandoned, temporary_name
from gancore.utils.files import regular
from gancore.utils.paths import check_folder_of, shell_quote
from gancore.utils.random import host_states_kept, seeded

if TYPE_CHECKING:
    from gancore.sampling.trained import TrainedGenerator

_SHOWN = 64
"""Samples in the picture of an export."""
_MOST_OF_EVALUATION = 4 << 20
"""Bytes of the largest evaluation that is read."""


@dataclass(frozen=True)
class Exported:
    """The result of an export: where it is, the name of the exporter, and the facts that it found."""

    path: Path
    exporter: str
    facts: Facts


def export(trained: TrainedGenerator, exporter: Exporter, out: Path) -> Exported:
    """Write a trained generator with an exporter to a path, which must be new, or an empty folder for a folder.

    The path holds the complete result or nothing, whenever the process is killed. Raises ConfigError when the exporter
    cannot work here, the path does not suit it, or the generator cannot be exported; StorageError when the path cannot
    be written; PluginError when the exporter fails.
    """
    with blame(f"exporter {exporter.name!r}", "in check()"):
        exporter.check()
    check_target(exporter, out)
    model = exported_generator(trained)
    with _place_for(out) as temporary, preserve_process_state(), host_states_kept(), seeded(0):
        with blame(f"exporter {exporter.name!r}", "in export()"), _writing(out):
            facts = dict(exporter.export(model, temporary))
            if not (temporary.is_file() if exporter.suffix else temporary.is_dir()):
                raise RuntimeError(f"it has written no {'file' if exporter.suffix else 'folder'}")
        with _writing(out):
            _move(temporary, out, exporter)
    return Exported(out, exporter.name, facts)


def check_target(exporter: Exporter, out: Path) -> None:
    """Raise ConfigError unless an exporter can write to this path without replacing anything.

    Raises StorageError when it is below a file, or in a folder that is not writable.
    """
    if exporter.suffix and out.suffix.lower() != exporter.suffix:
        better = f"--out {shell_quote(out.with_suffix(exporter.suffix))}"
        raise ConfigError(f"{exporter.name} writes a file that ends in {exporter.suffix}; received {out}", better)
    check_folder_of(out)
    if not os.path.lexists(out) or (not exporter.suffix and out.is_dir() and not any(out.iterdir())):
        return
    if not exporter.suffix:
        what = "is not empty" if out.is_dir() else "is a file"
        raise ConfigError(f"{exporter.name} writes a new or empty folder; {out} {what}", "choose another --out")
    raise ConfigError(f"{out} exists, and an export replaces nothing", "choose another --out, or remove it")


def exported_generator(trained: TrainedGenerator) -> ExportedGenerator:
    """Return what an exporter receives: copies, so that it cannot change the trained generator."""
    with blame("generator", "when it was copied"):
        generator = deepcopy(trained.generator).cpu().eval().requires_grad_(False)
    return ExportedGenerator(
        generator,
        trained.spec,
        trained.config.latent.distribution,
        trained.sample_format,
        deepcopy(dict(trained.about["data_format"])),
        _without_paths(trained),
        _origin(trained),
        _evaluation(trained),
        _picture(trained),
    )


def _without_paths(trained: TrainedGenerator) -> dict[str, Any]:  # Any: a config as plain data
    """Return the config without observers, which may hold names and addresses, and with the last names of paths.

    Those of datasets are known. Of other components, only text that begins like a path is taken for one.
    """
    paths = set[str]()

    def collect(path: str) -> str:
        paths.add(path)
        return path

    with_paths(trained.config, collect)

    def shortened(value: Any) -> Any:  # Any: as above
        if isinstance(value, Mapping):
            return {name: shortened(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [shortened(item) for item in value]
        if isinstance(value, str) and (value in paths or value.startswith(("/", "~"))):
            return Path(value).name or "data"
        return value

    return {key: shortened(value) for key, value in trained.about["config"].items() if key != "observers"}


def _origin(trained: TrainedGenerator) -> dict[str, Any]:  # Any: JSON
    """Return where the weights come from; see `ExportedGenerator.about`."""
    made_with, progress = trained.about["made_with"], trained.about["progress"]
    recipe = trained.about.get("origin", {}).get("recipe")
    return {
        "step": trained.step,
        "kimg": progress["images_seen"] / 1000,
        "averaged": trained.averaged,
        "half_life_kimg": trained.half_life_kimg,
        "checkpoint": trained.about.get("checkpoint", trained.digest),  # of an exported one, the original
        "recipe": Path(recipe).name if recipe else None,
        **{key: made_with.get(key) for key in ("gancore", "torch", "python")},
        "plugins": {Path(name).name: version for name, version in made_with.get("plugins", {}).items()},
        "needs": deepcopy(made_with.get("needs", [])),
    }


def _evaluation(trained: TrainedGenerator) -> dict[str, Any] | None:  # Any: JSON
    """Return the evaluation of the run that the checkpoint is in, if it is of the same step and can be read.

    None for an average (EMA) other than that of `ema.half_life_kimg`, which the run evaluates.
    """
    if trained.config.ema is not None and trained.half_life_kimg in trained.config.ema.more_kimg:
        return None
    file = trained.path.absolute().parent.parent / "evaluation.json"
    with suppress(OSError, ValueError, RecursionError):
        with regular(file) as opened:
            content = opened.read(_MOST_OF_EVALUATION + 1)
        if len(content) <= _MOST_OF_EVALUATION and (found := json_object(content.decode())).get("step") == trained.step:
            return found
    return None


def _picture(trained: TrainedGenerator) -> bytes | None:
    """Return a PNG of samples; None for samples that make no picture, or that need a tensor as their condition."""
    if isinstance(trained.spec.condition, tuple) or not is_picture(trained.shape):
        return None
    stream = trained.stream(_SHOWN)
    return png_bytes(picture(torch.cat(list(stream)), limits=stream.limits))


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Raise StorageError in place of an OSError, without the name of the temporary folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write to {out}: {error.strerror or error}", HINT) from error


@contextmanager
def _place_for(out: Path) -> Iterator[Path]:
    """Yield a path with the name of `out` in a temporary folder on the same disk, which is removed after the block.

    It is in the nearest parent of `out` that exists, so that a failed export makes no folders. What a killed process
    left there is removed: a process that writes has locked its folder.
    """
    parent = next(folder for folder in out.absolute().parents if folder.is_dir())
    with _writing(out):
        remove_abandoned(parent / out.name)
        folder = temporary_name(parent / out.name)
        folder.mkdir()
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        hold(lock)
        yield folder / out.name
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _move(temporary: Path, out: Path, exporter: Exporter) -> None:
    """Move what was exported to its place, flushed to the disk. Raises ConfigError if there is something by now."""
    for path in [*temporary.rglob("*"), temporary]:
        flush(path)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    check_target(exporter, out)
    os.replace(temporary, out)
    flush(out.absolute().parent)
