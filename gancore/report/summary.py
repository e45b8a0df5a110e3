"""A run as the files of its folder describe it: how far, how fast and how good it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gancore.checkpoint.log import MetricsTable
from gancore.config.duration import Duration
from gancore.config.metric_names import LOG_KEYS
from gancore.report.scores import Score, ScoreDetails

LOSSES = ("discriminator_loss", "generator_loss")
"""Keys of the losses in lines of the log."""


@dataclass(frozen=True)
class Event:
    """Something that happened at a step: `kind` is `collapse` or `nonfinite`, `text` says what."""

    step: int
    kimg: float
    kind: str
    text: str


@dataclass(frozen=True)
class RunSummary:
    """A run as the files of its folder describe it.

    `config` is its resolved config as plain data, `manifest` the sound entries of manifest.json, `log` the lines of
    metrics.jsonl, `events` the collapses and numbers that were not finite. `evaluated` are the details of metrics and
    `warnings` those of the newest evaluation, which is of `evaluated_step`; `further_real_data` the scores of real data
    for further numbers of metrics. `pictures` are steps and paths of sample pictures, oldest first, `real` is the
    contact sheet of the data, `arrays` the number of samples that are no pictures. `notes` say what is missing or
    damaged, in sentences. `saved` is the progress in the newest valid checkpoint, if it was read; it may be ahead of
    the log, and behind it.
    """

    path: Path
    name: str
    """The name of the run, as a reader knows it: the last two folders of its path."""
    config: Mapping[str, Any]  # Any: data of a file
    manifest: Mapping[str, Any]  # Any: JSON
    log: MetricsTable
    events: tuple[Event, ...] = ()
    evaluated: Mapping[str, ScoreDetails] = field(default_factory=dict)
    further_real_data: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    evaluated_step: int | None = None
    pictures: tuple[tuple[int, Path], ...] = ()
    arrays: int = 0
    real: Path | None = None
    notes: tuple[str, ...] = ()
    saved: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

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
        epoch = line["epoch"] * self.kimg / line["kimg"] if line else math.nan
        return epoch if math.isfinite(epoch) else None

    @property
    def images_per_second(self) -> float | None:
        """Real images per second of training, with evaluations, over the whole run; None before the first second."""
        return 1000 * self.kimg / self.seconds if self.kimg > 0 and self.seconds > 0 else None

    @cached_property
    def training_lines(self) -> list[dict[str, float]]:
        """The lines of the log that are about training, oldest first; the others are about evaluations."""
        return [line for line in self.log if all(key in line for key in LOSSES)]

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The metrics by name, in the order of the newest evaluation. Without any evaluation it is empty."""
        found: dict[str, list[tuple[int, float]]] = {name: [] for name in self.evaluated}
        for line in self._evaluation_lines:
            for name, value in line.items():
                if name in self.evaluated or (name not in LOG_KEYS and "." not in name):
                    found.setdefault(name, []).append((int(line["step"]), value))
        for name, details in self.evaluated.items():  # `gancore evaluate --save` leaves the log as it is
            values, step = found[name], self.evaluated_step
            if step is None:
                continue
            value = math.nan if details.value is None else details.value
            is_newer = not values or values[-1][0] < step
            if is_newer or (math.isfinite(value) and values[-1][0] == step and values[-1][1] != value):
                values.append((step, value))
        real = {name: details.real_data for name, details in self.evaluated.items()}
        return {
            name: Score(name, tuple(values), self.evaluated.get(name), real.get(name))
            for name, values in found.items()
            if values
        }

    @cached_property
    def further_scores(self) -> dict[str, Score]:
        """The further numbers of metrics, such as `modes.reverse_kl`, by name."""
        found: dict[str, list[tuple[int, float]]] = {}
        for line in self._evaluation_lines:
            for name, value in line.items():
                if name not in self.scores and any(name.startswith(f"{metric}.") for metric in self.scores):
                    found.setdefault(name, []).append((int(line["step"]), value))
        return {
            name: Score(name, tuple(values), real_data=self.further_real_data.get(name))
            for name, values in found.items()
        }

    @property
    def _evaluation_lines(self) -> list[dict[str, float]]:
        return [line for line in self.log if not any(key in line for key in LOSSES)]

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

    def longer(self) -> str:
        """Return the option that doubles the total, such as `--steps 1200`. Raises ValueError if it is not known."""
        total = Duration.parse(str(self.config.get("duration")))
        return f"--{total.unit} {f'{2 * total.amount:f}'.rstrip('0').rstrip('.')}"

    def _newest(self, key: str) -> float:
        """Return the newest number of this key in the log, 0 without any."""
        return next((line[key] for line in reversed(self.log) if math.isfinite(line.get(key, math.nan))), 0.0)

    def curve(self, key: str) -> list[tuple[float, float]]:
        """Return the values of a key of the log as (kimg, value), in order; NaN where it was not finite."""
        points = ((line["kimg"], line[key]) for line in self.log if key in line and "kimg" in line)
        return [(at, value) for at, value in points if math.isfinite(at)]
