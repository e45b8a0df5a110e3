"""A run as a row of a comparison: how far, how fast and how good it is, from the files of its folder.

No plugin is imported for it.
Whatever is missing or damaged is left out, and named in `problems`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.log import MetricsTable
from gancore.config.duration import Duration
from gancore.config.metric_names import LOG_KEYS
from gancore.errors import CheckpointError, StorageError
from gancore.metrics import Better
from gancore.report.collect import Event, RunSummary, collect

CONFIG, EVALUATION = "config.toml", "evaluation.json"
"""File names in the folder of a run."""
LOSSES = ("discriminator_loss", "generator_loss")
"""Keys of the losses in lines of the log."""


class ScoreDetails(BaseModel):
    """What evaluation.json says of a metric: the score of real data, and how the metric was measured."""

    model_config = ConfigDict(strict=True)

    better: Better
    real_data: float | None
    counts: dict[str, int]
    extractor: dict[str, Any] | None  # Any: JSON
    reference: dict[str, Any] | None  # Any: JSON
    seed: int
    settings: dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Score:
    """The values of a metric in the log, oldest first, as pairs of step and value; NaN where it was not finite.

    Without evaluation.json there are no `details`: neither the better direction nor the score of real data is known.
    """

    name: str
    history: tuple[tuple[int, float], ...]
    details: ScoreDetails | None

    @property
    def value(self) -> float:
        """The newest value."""
        return self.history[-1][1]

    @property
    def step(self) -> int:
        """The step of the newest value."""
        return self.history[-1][0]

    @property
    def better(self) -> Better | None:
        """Whether lower or higher values are better, None if it is not known."""
        return self.details.better if self.details else None

    @property
    def real_data(self) -> float | None:
        """The score of real data, None if it is not known."""
        return self.details.real_data if self.details else None

    @property
    def best(self) -> tuple[int, float] | None:
        """The step and the value of the best one that is finite, the first of several; None if it is not known."""
        finite = [(step, value) for step, value in self.history if math.isfinite(value)]
        if not finite or self.better is None:
            return None
        choose = min if self.better == "lower" else max
        return choose(finite, key=lambda pair: pair[1])


@dataclass(frozen=True)
class RunRow:
    """A run as the files of its folder describe it.

    `config` is its resolved config as plain data, `manifest` the sound entries of manifest.json, `log` the lines of
    metrics.jsonl, `events` the collapses and numbers that were not finite. `evaluated` are the details of metrics and
    `warnings` those of the newest evaluation. `problems` says what is missing or damaged, in sentences. `saved` is the
    progress in the newest valid checkpoint, if it was read; it may be ahead of the log, and behind it.
    """

    path: Path
    config: Mapping[str, Any]  # Any: data of a file
    manifest: Mapping[str, Any]  # Any: JSON
    log: MetricsTable
    events: tuple[Event, ...] = ()
    evaluated: Mapping[str, ScoreDetails] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    saved: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    @property
    def name(self) -> str:
        """The path of the folder as it was given."""
        return str(self.path)

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return int(max(self.log[-1]["step"] if self.log else 0, self.saved.get("step", 0)))

    @property
    def kimg(self) -> float:
        """Thousands of real images that the discriminator has seen."""
        return max(self._newest("kimg"), float(self.saved.get("images_seen", 0)) / 1000)

    @property
    def seconds(self) -> float:
        """Seconds of training, with evaluations, over all processes that resumed the run."""
        return max(self._newest("seconds"), float(self.saved.get("seconds", 0)))

    @property
    def epoch(self) -> float | None:
        """Passes over the data so far, None if no line of the log has it."""
        line = next((line for line in reversed(self.training_lines) if line.get("epoch") and line.get("kimg")), None)
        return line["epoch"] * self.kimg / line["kimg"] if line else None

    @property
    def images_per_second(self) -> float | None:
        """The median of the lines of the log; None without any."""
        found = [line["images_per_second"] for line in self.training_lines if "images_per_second" in line]
        finite = [value for value in found if math.isfinite(value)]
        return median(finite) if finite else None

    @cached_property
    def training_lines(self) -> list[dict[str, float]]:
        """The lines of the log that are about training, oldest first; the others are about evaluations."""
        return [line for line in self.log if all(key in line for key in LOSSES)]

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The metrics by name, in the order of the newest evaluation. Without any evaluation it is empty."""
        found: dict[str, list[tuple[int, float]]] = {name: [] for name in self.evaluated}
        for line in self.log:
            if all(key in line for key in LOSSES):
                continue
            for name, value in line.items():
                if name in self.evaluated or (name not in LOG_KEYS and "." not in name):
                    found.setdefault(name, []).append((int(line["step"]), value))
        return {name: Score(name, tuple(values), self.evaluated.get(name)) for name, values in found.items() if values}

    @property
    def has_metrics(self) -> bool:
        """Whether the run measures metrics during training."""
        return bool(self.config.get("metrics"))

    @property
    def done(self) -> float | None:
        """The part of the duration that is done, 1 for a finished run; None if the duration is not known."""
        try:
            duration = Duration.parse(str(self.config.get("duration")))
        except ValueError:
            return None
        if duration.unit == "epochs":
            return None if self.epoch is None else self.epoch / duration.amount
        return duration.done(step=self.step, images_seen=round(self.kimg * 1000), seconds=self.seconds, dataset_size=1)

    def _newest(self, key: str) -> float:
        """Return the newest number of this key in the log, 0 without any."""
        return next((line[key] for line in reversed(self.log) if math.isfinite(line.get(key, math.nan))), 0.0)


def read_row(path: Path | str) -> RunRow:
    """Return the run in a folder as a row of a comparison. Raises CheckpointError when there is no run.

    The config of a run whose file is blank or damaged is taken from its newest valid checkpoint, which is also read for
    the progress of a run without a log.
    """
    found, problems = collect(Path(path)), list[str]()
    folder, config, saved = found.path, found.config, dict[str, Any]()  # Any: JSON
    if wrong := [part for part in ("generator", "discriminator", "dataset") if not isinstance(config.get(part), dict)]:
        config = {}
        file = folder / CONFIG
        if not any(note.startswith(f"{file} ") for note in found.notes):
            is_blank = not found.config
            problems.append(f"{file} is {'blank' if is_blank else f'not the config of a run: it has no {wrong[0]}'}")
    checkpoints = folder / "checkpoints"
    try:
        has_checkpoint = bool(checkpoint.kept(checkpoints))
        if has_checkpoint and not (found.log and config):
            newest = checkpoint.newest_valid(checkpoints)
            problems += [reason for _, reason in newest.rejected]
            if newest.checkpoint:
                saved = newest.checkpoint.about["progress"]
                config = config or newest.checkpoint.about["config"]
    except StorageError as error:
        has_checkpoint = False
        problems.append(error.message)
    if not has_checkpoint and not config:
        reason = (*problems, *found.notes)[0]
        raise CheckpointError(f"there is no run in {folder}: {reason}", "name the folder of a run, like runs/0001")
    evaluated, warnings, wrong_entries = _evaluated(found)
    row = RunRow(folder, config, found.manifest, found.log, found.events, evaluated, warnings, saved=saved)
    if row.scores and not os.path.lexists(folder / EVALUATION):
        problems.append(f"{folder / EVALUATION} is missing, so the scores of real data are not known")
    return replace(row, problems=(*found.notes, *problems, *wrong_entries))


def _evaluated(found: RunSummary) -> tuple[dict[str, ScoreDetails], tuple[str, ...], list[str]]:
    """Return the metrics and the warnings of the newest evaluation, and what is wrong with them."""
    file, metrics, warnings = found.path / EVALUATION, found.evaluation.get("metrics"), found.evaluation.get("warnings")
    if not isinstance(metrics, dict):
        return {}, (), [f"{file} is damaged: it has no metrics"] if found.evaluation else []
    sound, problems = dict[str, ScoreDetails](), list[str]()
    for name, entry in metrics.items():
        try:
            sound[name] = ScoreDetails.model_validate(entry)
        except ValidationError as error:
            place = ".".join(map(str, (name, *error.errors()[0]["loc"])))[:100]
            problems.append(f"{file} is damaged: {place!a} is wrong or missing")
    return sound, tuple(map(str, warnings)) if isinstance(warnings, list) else (), problems


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
