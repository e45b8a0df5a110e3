"""Runs side by side: what differs in their configs, which differ only in their seed, and medians over those."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from gancore.config.layers import flattened
from gancore.errors import ConfigError, unknown_name
from gancore.metrics import Better
from gancore.report.summary import RunSummary
from gancore.utils.paths import shell_quote

SAME_TRAINING = (
    "seed",
    "schema",
    "log",
    "report",
    "sample",
    "observers",
    "checkpoint",
    "evaluate.every_kimg",
    "training.data",
    "training.threads",
    "training.workers",
)
"""Keys, and tables of keys, in which runs over seeds may differ: none changes what is trained or how it is measured."""


@dataclass(frozen=True)
class ConfigDifference:
    """A key whose value is not the same in all runs: `values` has that of each run, None where the key is absent.

    `key` is dotted, as `--set` takes it.
    """

    key: str
    values: tuple[object, ...]


@dataclass(frozen=True)
class Spread:
    """The median of numbers, and the least and the greatest of them; `count` is how many there are."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class OverSeeds:
    """Runs that differ only in their seed, as positions, and what they reached; None where no run has a number."""

    members: tuple[int, ...]
    kimg: Spread | None
    seconds: Spread | None
    metrics: Mapping[str, Spread]
    """The newest values by name; without metrics that no run has."""


@dataclass(frozen=True)
class MedianCurve:
    """The median over `count` curves, and the least and the greatest value of them, at each `kimg`; all are as long."""

    kimg: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int


def config_differences(configs: Sequence[Mapping[str, Any]]) -> list[ConfigDifference]:  # Any: data of a file
    """Return the keys in which configs differ, table by table; none for fewer than two configs."""
    flat = [flattened(config) for config in configs]
    tables = [*dict.fromkeys(key.partition(".")[0] for values in flat for key in values)]
    keys = sorted(
        dict.fromkeys(key for values in flat for key in values), key=lambda key: tables.index(key.partition(".")[0])
    )
    rows = (ConfigDifference(key, tuple(values.get(key) for values in flat)) for key in keys)
    return [row for row in rows if len({_text(value) for value in row.values}) > 1]


def essential(differences: Sequence[ConfigDifference]) -> list[ConfigDifference]:
    """Return the differences without fields that only follow from the name of a component.

    They are absent from runs with another component, and the same in all runs with the same one: the `widths` of a
    generator, where the others have a generator without that field.
    """
    names = {row.key.removesuffix(".name"): row.values for row in differences if row.key.endswith(".name")}
    return [row for row in differences if not any(_follows(row, table, names[table]) for table in names)]


def _follows(row: ConfigDifference, table: str, names: Sequence[object]) -> bool:
    if not row.key.startswith(f"{table}.") or row.key == f"{table}.name" or None not in row.values:
        return False
    pairs = {(_text(name), _text(value)) for name, value in zip(names, row.values, strict=True)}
    return len(pairs) == len({name for name, _ in pairs})


def _text(value: object) -> str:
    """Return a text that is the same for equal values of the same type."""
    return json.dumps(value, sort_keys=True, default=str)


def groups_over_seeds(configs: Sequence[Mapping[str, Any]]) -> list[tuple[int, ...]]:  # Any: data of a file
    """Return the positions of the configs in groups that differ at most in their seed and in `SAME_TRAINING`.

    Each position is in one group. Groups and positions are in the order of the configs.
    """
    groups: dict[str, list[int]] = {}
    for position, config in enumerate(configs):
        values = {key: value for key, value in flattened(config).items() if not _is_below(key, SAME_TRAINING)}
        groups.setdefault(_text(values), []).append(position)
    return [tuple(group) for group in groups.values()]


def over_seeds(runs: Sequence[RunSummary]) -> list[OverSeeds]:
    """Return the groups of at least two runs that differ only in their seed."""
    groups = groups_over_seeds([run.config for run in runs])
    return [_summary_of(runs, group) for group in groups if len(group) > 1 and runs[group[0]].config]


def _summary_of(runs: Sequence[RunSummary], group: tuple[int, ...]) -> OverSeeds:
    members = [runs[position] for position in group]
    metrics = dict[str, Spread]()
    for name in metric_names(members):
        if spread := median_and_spread([run.scores[name].value for run in members if name in run.scores]):
            metrics[name] = spread
    kimg, seconds = (median_and_spread([getattr(run, key) for run in members]) for key in ("kimg", "seconds"))
    return OverSeeds(group, kimg, seconds, metrics)


def metric_names(runs: Iterable[RunSummary]) -> list[str]:
    """Return the names of the metrics of all runs."""
    return list(dict.fromkeys(name for run in runs for name in run.scores))


def better_of(runs: Iterable[RunSummary], metric: str) -> Better | None:
    """Return whether lower or higher values of a metric are better, None if no run knows it."""
    return next((run.scores[metric].better for run in runs if metric in run.scores and run.scores[metric].better), None)


def best_first(runs: Sequence[RunSummary], metric: str) -> list[RunSummary]:
    """Return the runs with the best newest value of a metric first, and last those without one.

    Raises ConfigError for a metric that no run has, and for one of which it is not known what is better.
    """
    known = metric_names(runs)
    if not known:
        raise ConfigError(f"cannot sort by {metric!r}: no run has been evaluated", "leave --sort out")
    if metric not in known:
        raise ConfigError(unknown_name("metric of the runs", metric, known), f"--sort {shell_quote(known[0])}")
    better = better_of(runs, metric)
    if better is None:
        run = next(run for run in runs if metric in run.scores)
        kept = [metric, *run.evaluated]  # --save replaces evaluation.json
        options = " ".join(f"--metric {shell_quote(name)}" for name in kept)
        raise ConfigError(
            f"it is not known whether lower or higher values of {metric} are better",
            f"gancore evaluate {shell_quote(run.path)} {options} --save",
        )
    sign = -1 if better == "higher" else 1

    def place(run: RunSummary) -> float:
        value = run.scores[metric].value if metric in run.scores else math.nan
        return sign * value if math.isfinite(value) else math.inf

    return sorted(runs, key=place)


def repeated_seeds(runs: Sequence[RunSummary], names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for runs that repeat each other, and so are no independent seeds; `names` are those of runs."""
    for group in over_seeds(runs):
        by_seed: dict[object, list[str]] = {}
        for position in group.members:
            by_seed.setdefault(runs[position].config.get("seed"), []).append(names[position])
        for seed, repeated in by_seed.items():
            if len(repeated) > 1:
                yield f"{', '.join(repeated)} have the same config and seed {seed}"


def _is_below(key: str, tables: Sequence[str]) -> bool:
    return any(key == table or key.startswith(f"{table}.") for table in tables)


def median_and_spread(values: Sequence[float]) -> Spread | None:
    """Return the median and the range of numbers; those that are not finite are left out. None if no number is left."""
    finite = [value for value in values if math.isfinite(value)]
    return Spread(median(finite), min(finite), max(finite), len(finite)) if finite else None


def median_curve(curves: Sequence[Sequence[tuple[float, float]]], points: int = 200) -> MedianCurve | None:
    """Return the median over curves of (kimg, value), on a grid of `points` equal steps, with the range of the values.

    The grid spans the kimg that all curves have, so it ends with the shortest one. Between its points a curve is
    linear; points that are not finite are left out, and so are curves without any other. Of several values at one kimg
    the last counts. None unless the curves have a kimg in common.
    """
    ordered = [sorted(dict(point for point in curve if all(map(math.isfinite, point))).items()) for curve in curves]
    ordered = [curve for curve in ordered if curve]
    if not ordered:
        return None
    first, last = max(curve[0][0] for curve in ordered), min(curve[-1][0] for curve in ordered)
    if first > last:
        return None
    grid = np.linspace(first, last, points if first < last else 1)
    values = np.stack(
        [np.interp(grid, [kimg for kimg, _ in curve], [value for _, value in curve]) for curve in ordered]
    )
    lines = (grid, np.median(values, axis=0), values.min(axis=0), values.max(axis=0))
    kimg, middle, low, high = (tuple(map(float, line)) for line in lines)
    return MedianCurve(kimg, middle, low, high, len(ordered))
