"""What the folder of a run holds. Whatever is missing or damaged becomes a note; no plugin is imported."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.log import MetricsTable, describe_damage, read_log
from gancore.checkpoint.manifest import read_manifest
from gancore.errors import CheckpointError, StorageError
from gancore.evaluation.collapse import LOW_VALUES_TO_ALARM, MIN_DIVERSITY
from gancore.report.scores import ScoreDetails
from gancore.report.summary import Event, RunSummary
from gancore.sampling.run_pictures import pictures_among
from gancore.utils.files import regular
from gancore.utils.paths import name_a_run

CONFIG, EVALUATION = "config.toml", "evaluation.json"
"""File names in the folder of a run."""
_MOST_STEPS = 2**53
"""A number in evaluation.json above it is no step."""
_LARGEST = 1e100
"""A number of the log above it counts as not finite: float32 ends at 3.4e38, and axes overflow near 1e308."""


def collect(path: Path | str) -> RunSummary:
    """Return what the folder of a run holds. Changes nothing, and needs no lock.

    The config of a run whose file is blank or damaged is taken from its newest valid checkpoint, which is also read for
    the progress of a run without a log. Raises CheckpointError when there is no run in the folder.
    """
    path = Path(path)
    if not any(os.path.lexists(path / name) for name in (CONFIG, "manifest.json", "checkpoints")):
        kind = f"{path} is a file, not the folder of a run" if path.is_file() else f"there is no run in {path}"
        raise CheckpointError(kind, name_a_run())
    notes: list[str] = []
    config = _read(path / CONFIG, _toml, notes)
    manifest = read_manifest(path)
    notes += [manifest.problem] if manifest.problem else []
    log = _log(path / "metrics.jsonl", notes)
    has_evaluation = os.path.lexists(path / EVALUATION)
    evaluation = _read(path / EVALUATION, _json, notes) if has_evaluation else {}
    pictures, arrays, real = _pictures(path / "samples", notes)
    config = _sound_config(path, config, notes)
    saved = _saved(path, config, log, notes)
    evaluated, warnings = _evaluated(path / EVALUATION, evaluation, notes)
    step = evaluation.get("step")
    run = RunSummary(
        path=path,
        name="/".join(part for part in path.absolute().parts[-2:] if part != os.sep) or str(path),
        config=config or saved.get("config", {}),
        manifest=manifest.entries,
        log=log,
        events=_events(log, manifest.entries),
        evaluated=evaluated,
        further_real_data=_further_real_data(evaluation),
        warnings=warnings,
        evaluated_step=step if isinstance(step, int) and 0 <= step <= _MOST_STEPS else None,
        pictures=pictures,
        arrays=arrays,
        real=real,
        saved=saved.get("progress", {}),
    )
    if run.scores and not has_evaluation:
        notes.append(f"{path / EVALUATION} is missing, so the scores of real data are not known")
    return replace(run, notes=tuple(notes))


def _log(file: Path, notes: list[str]) -> MetricsTable:
    try:
        log = read_log(file)
    except StorageError as error:
        notes.append(error.message)
        return MetricsTable()
    if log.damaged:
        notes.append(describe_damage(file, log.damaged))
    return _as_floats(log)


def _sound_config(path: Path, config: Mapping[str, Any], notes: list[str]) -> Mapping[str, Any]:  # Any: data of a file
    """Return the config if it is that of a run; else an empty one, with a note."""
    wrong = [part for part in ("generator", "discriminator", "dataset") if not isinstance(config.get(part), dict)]
    if not wrong:
        return config
    file = path / CONFIG
    if not any(note.startswith(f"{file} ") for note in notes):
        notes.append(f"{file} is {f'not the config of a run: it has no {wrong[0]}' if config else 'blank'}")
    return {}


def _saved(
    path: Path, config: Mapping[str, Any], log: MetricsTable, notes: list[str]
) -> Mapping[str, Any]:  # Any: JSON
    """Return what the newest valid checkpoint says of itself if config or log are missing; else nothing."""
    checkpoints, problems = path / "checkpoints", list[str]()
    saved: Mapping[str, Any] = {}
    try:
        has_checkpoint = bool(checkpoint.kept(checkpoints))
        if has_checkpoint and not (log and config):
            newest = checkpoint.newest_valid(checkpoints)
            problems += [reason for _, reason in newest.rejected]
            saved = newest.checkpoint.about if newest.checkpoint else saved
    except StorageError as error:
        has_checkpoint = False
        problems.append(error.message)
    if not has_checkpoint and not config:
        reason = next((note for note in notes if note.startswith(f"{path / CONFIG} ")), (*problems, *notes)[0])
        raise CheckpointError(f"there is no run in {path}: {reason}", name_a_run())
    notes += problems
    return saved


def _evaluated(
    file: Path,
    evaluation: Mapping[str, Any],
    notes: list[str],  # Any: JSON
) -> tuple[dict[str, ScoreDetails], tuple[str, ...]]:
    """Return the metrics and the warnings of the newest evaluation; `notes` get what is wrong with them."""
    metrics, warnings = evaluation.get("metrics"), evaluation.get("warnings")
    if not isinstance(metrics, dict):
        notes += [f"{file} is damaged: it has no metrics"] if evaluation else []
        return {}, ()
    sound = dict[str, ScoreDetails]()
    for name, entry in metrics.items():
        try:
            sound[name] = ScoreDetails.model_validate(entry)
        except ValidationError as error:
            place = ".".join(map(str, (name, *error.errors()[0]["loc"])))[:100]
            notes.append(f"{file} is damaged: {place!a} is wrong or missing")
    return sound, tuple(map(str, warnings)) if isinstance(warnings, list) else ()


def _further_real_data(evaluation: Mapping[str, Any]) -> dict[str, float]:  # Any: JSON
    """Return the scores of real data for further numbers of metrics, such as `modes.reverse_kl`."""
    results, found = evaluation.get("metrics"), dict[str, float]()
    for name, result in results.items() if isinstance(results, dict) else ():
        details = result.get("details") if isinstance(result, dict) else None
        for detail, about in details.items() if isinstance(details, dict) else ():
            number = _number(about.get("real_data")) if isinstance(about, dict) else None
            found |= {} if number is None else {f"{name}.{detail}": number}
    return found


def _as_floats(log: MetricsTable) -> MetricsTable:
    """Return the lines with floats in place of integers of any size; without lines whose step is too large for one."""
    lines = ({key: _float(value) for key, value in line.items()} for line in log)
    return MetricsTable(line for line in lines if math.isfinite(line["step"]))


def _float(value: float) -> float:
    """Return a number as a float; NaN if it is not finite, or too large for one."""
    try:
        return float(value) if abs(value) <= _LARGEST else math.nan
    except OverflowError:
        return math.nan


def _toml(text: str) -> object:
    return tomllib.loads(text)


def _json(text: str) -> object:
    return json.loads(text)


def _read(path: Path, parse: Callable[[str], object], notes: list[str]) -> Mapping[str, Any]:  # Any: data of a file
    """Return the table in a file; an empty one, with a note, if it is missing or damaged."""
    try:
        with regular(path) as file:
            found = parse(file.read().decode())
    except FileNotFoundError:
        notes.append(f"{path} is missing")
    except OSError as error:
        notes.append(f"{path} cannot be read: {error.strerror or error}")
    except (ValueError, RecursionError):
        notes.append(f"{path} is damaged")
    else:
        if isinstance(found, dict):
            return found
        notes.append(f"{path} is damaged")
    return {}


def _pictures(folder: Path, notes: list[str]) -> tuple[tuple[tuple[int, Path], ...], int, Path | None]:
    """Return sample pictures with their steps, the number of arrays of samples, and the contact sheet of the data."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        names = []
    except OSError as error:
        notes.append(f"{folder} cannot be read: {error.strerror or error}")
        names = []
    arrays = sum(name.startswith("step-") and name.endswith(".npy") for name in names)
    return tuple(pictures_among(folder, names)), arrays, folder / "real.png" if "real.png" in names else None


def _events(log: MetricsTable, manifest: Mapping[str, Any]) -> tuple[Event, ...]:  # Any: JSON
    """Return the events that the manifest records, and those that only the log shows, in order."""
    recorded = manifest.get("events")
    found: dict[tuple[int, str], Event] = {}
    for entry in recorded if isinstance(recorded, list) else []:
        if isinstance(entry, dict) and type(entry.get("step")) is int:
            kimg, kind = _number(entry.get("kimg")), str(entry.get("kind", ""))
            if kimg is not None and math.isfinite(kimg):
                found[entry["step"], kind] = Event(entry["step"], kimg, kind, str(entry.get("text", "")))
    low = 0
    for line in log:
        step, kimg = int(line["step"]), line.get("kimg", math.nan)
        if not math.isfinite(kimg):
            continue
        unfit = [key for key, value in line.items() if math.isnan(value) and not key.startswith("diversity")]
        if "discriminator_loss" in line and unfit:
            text = f"not finite in the log: {', '.join(unfit)}"
            found.setdefault((step, "nonfinite"), Event(step, kimg, "nonfinite", text))
        if "diversity" in line:
            low = low + 1 if line["diversity"] < MIN_DIVERSITY else 0
            if low == LOW_VALUES_TO_ALARM:
                text = f"collapse suspected: the samples have {line['diversity']:.0%} of the diversity of real data"
                found.setdefault((step, "collapse"), Event(step, kimg, "collapse", text))
    return tuple(sorted(found.values(), key=lambda event: (event.step, event.kind)))


def _number(value: object) -> float | None:
    return _float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def expand(paths: Sequence[Path]) -> list[Path]:
    """Return the folders of runs: a folder that is no run but has runs in it stands for those, in order of their names.

    Any other path is returned as it is.
    """
    return [run for path in paths for run in _runs_of(path)]


def _runs_of(path: Path) -> list[Path]:
    if _is_run(path) or not path.is_dir():
        return [path]
    try:
        inner = sorted(folder for folder in path.iterdir() if _is_run(folder))
    except OSError:
        return [path]
    return inner or [path]


def _is_run(path: Path) -> bool:
    return (path / CONFIG).is_file() and (path / "checkpoints").is_dir()
