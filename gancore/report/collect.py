"""What the folder of a run holds, read for a page. Whatever is missing or damaged becomes a note, never an error."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gancore.checkpoint.log import MetricsTable, describe_damage, read_log
from gancore.checkpoint.manifest import read_manifest
from gancore.errors import CheckpointError, StorageError
from gancore.evaluation.collapse import LOW_VALUES_TO_ALARM, MIN_DIVERSITY
from gancore.utils.files import regular

_PICTURE = re.compile(r"step-(\d+)\.png")
_NOT_MEASURED = {"step", "epoch", "kimg", "seconds", "images_per_second", "diversity"}
"""Numbers of the log that are neither losses, logits and penalties nor values of metrics."""


@dataclass(frozen=True)
class Event:
    """Something that happened at a step: `kind` is `collapse` or `nonfinite`, `text` says what."""

    step: int
    kimg: float
    kind: str
    text: str


@dataclass(frozen=True)
class MetricSummary:
    """The newest value of a metric with what it is compared with; None where that is not known.

    `better` is `lower` or `higher`, or empty if it is not known.
    """

    name: str
    value: float | None
    better: str
    real_data: float | None
    ideal: float | None


@dataclass(frozen=True)
class RunSummary:
    """A run as its folder describes it.

    `config`, `manifest` and `evaluation` are empty where the file is missing or damaged. `log` has the lines of
    metrics.jsonl. `metrics` are drawn, `details` are their further numbers. `pictures` are steps and paths of sample
    pictures, oldest first, `real` is the contact sheet of the data, `arrays` the number of samples that are no
    pictures. `notes` say what is missing or damaged.
    """

    path: Path
    name: str
    """The name of the run, as a reader knows it: the last two folders of its path."""
    config: Mapping[str, Any]  # Any: data of a file, as below
    manifest: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    log: MetricsTable
    metrics: tuple[MetricSummary, ...]
    details: tuple[MetricSummary, ...]
    events: tuple[Event, ...]
    pictures: tuple[tuple[int, Path], ...]
    arrays: int
    real: Path | None
    notes: tuple[str, ...]

    @property
    def newest(self) -> Mapping[str, float]:
        """The newest finite numbers of the log, each from the last line that has it."""
        return {key: value for line in self.log for key, value in line.items() if math.isfinite(value)}

    def curve(self, key: str) -> list[tuple[float, float]]:
        """Return the values of a key of the log as (kimg, value), in order; NaN where it was not finite."""
        points = ((line["kimg"], line[key]) for line in self.log if key in line and "kimg" in line)
        return [(at, value) for at, value in points if math.isfinite(at)]

    def kimg_at(self, step: int) -> float | None:
        """Return thousands of real images after a step; between lines of the log it is linear. None without a log."""
        points = {
            0: 0.0,
            **{int(line["step"]): kimg for line in self.log if math.isfinite(kimg := line.get("kimg", math.nan))},
        }
        last = max(points)
        if step in points or last == 0:
            return points.get(step)
        if step > last:
            return points[last] * step / last
        before, after = max(at for at in points if at < step), min(at for at in points if at > step)
        return points[before] + (points[after] - points[before]) * (step - before) / (after - before)


def collect(path: Path) -> RunSummary:
    """Return what the folder of a run holds. Changes nothing, and needs no lock.

    Raises CheckpointError when there is no run in the folder.
    """
    if not any(os.path.lexists(path / name) for name in ("config.toml", "manifest.json", "checkpoints")):
        kind = f"{path} is a file, not the folder of a run" if path.is_file() else f"there is no run in {path}"
        raise CheckpointError(kind, "name the folder of a run, like runs/0001")
    notes: list[str] = []
    config = _read(path / "config.toml", _toml, notes)
    manifest = read_manifest(path)
    notes += [manifest.problem] if manifest.problem else []
    log_file = path / "metrics.jsonl"
    try:
        log = read_log(log_file)
    except StorageError as error:
        log = MetricsTable()
        notes.append(error.message)
    if log.damaged:
        notes.append(describe_damage(log_file, log.damaged))
    log = _as_floats(log)
    has_evaluation = os.path.lexists(path / "evaluation.json")
    evaluation = _read(path / "evaluation.json", _json, notes) if has_evaluation else {}
    pictures, arrays, real = _pictures(path / "samples", notes)
    events = _events(log, manifest.entries)
    metrics, details = _metrics(log, evaluation), _details(evaluation)
    name = "/".join(part for part in path.absolute().parts[-2:] if part != os.sep)
    return RunSummary(
        path,
        name or str(path),
        config,
        manifest.entries,
        evaluation,
        log,
        metrics,
        details,
        events,
        pictures,
        arrays,
        real,
        tuple(notes),
    )


def _as_floats(log: MetricsTable) -> MetricsTable:
    """Return the lines with floats in place of integers of any size; without lines whose step is too large for one."""
    lines = ({key: _float(value) for key, value in line.items()} for line in log)
    return MetricsTable(line for line in lines if math.isfinite(line["step"]))


def _float(value: float) -> float:
    """Return a number as a float; NaN if it is not finite, or too large for one."""
    try:
        return float(value) if math.isfinite(value) else math.nan
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
    found = [(int(match[1]), folder / name) for name in names if (match := _PICTURE.fullmatch(name))]
    arrays = sum(name.startswith("step-") and name.endswith(".npy") for name in names)
    return tuple(sorted(found)), arrays, folder / "real.png" if "real.png" in names else None


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


def _metrics(log: MetricsTable, evaluation: Mapping[str, Any]) -> tuple[MetricSummary, ...]:  # Any: JSON
    """Return the metrics of a run: those of its newest evaluation, and those that only the log has."""
    measured: dict[str, float] = {}
    for line in log:
        if "discriminator_loss" not in line:
            measured |= {key: value for key, value in line.items() if key not in _NOT_MEASURED}
    results = evaluation.get("metrics")
    results = {str(name): result for name, result in results.items()} if isinstance(results, dict) else {}
    named = dict.fromkeys([*results, *(key for key in measured if not _is_detail(key, [*results, *measured]))])
    summaries = []
    for name in named:
        result = results.get(name)
        about = result if isinstance(result, dict) else {}
        better = about.get("better")
        summaries.append(
            MetricSummary(
                name,
                measured.get(name, _number(about.get("value"))),
                better if better in ("lower", "higher") else "",
                _number(about.get("real_data")),
                _number(about.get("ideal")),
            )
        )
    return tuple(summaries)


def _details(evaluation: Mapping[str, Any]) -> tuple[MetricSummary, ...]:  # Any: JSON
    """Return the further numbers of metrics, such as `modes.reverse_kl`."""
    results = evaluation.get("metrics")
    found = []
    for name, result in results.items() if isinstance(results, dict) else ():
        details = result.get("details") if isinstance(result, dict) else None
        for detail, about in details.items() if isinstance(details, dict) else ():
            numbers = (
                [_number(about.get(key)) for key in ("value", "real_data", "ideal")] if isinstance(about, dict) else []
            )
            found += [MetricSummary(f"{name}.{detail}", numbers[0], "", *numbers[1:])] if numbers else []
    return tuple(found)


def _is_detail(key: str, names: Sequence[str]) -> bool:
    """Return whether a key of the log is a detail of one of the metrics: `modes.reverse_kl` is one of `modes`."""
    return any(key.startswith(f"{name}.") for name in names)


def _number(value: object) -> float | None:
    return _float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
