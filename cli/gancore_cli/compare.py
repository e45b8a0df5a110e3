"""The command `compare`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli import completers
from gancore_cli.curves import can_show_curves
from gancore_cli.hints import printable
from gancore_cli.options import Terminal, echo, output_options, print_table

if TYPE_CHECKING:
    from gancore.report.compare import ConfigDifference, Spread
    from gancore.report.scores import Score
    from gancore.report.summary import RunSummary

_MOST_COLUMNS = 3
"""Maximum number of runs that have a column each in the table of differences."""
_LONG = 16
"""Length of the paths from which on the folder that all of them share is printed once."""
_ARROWS = {"lower": " ↓", "higher": " ↑"}


@click.command()
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN...",
    shell_complete=completers.runs,
)
@click.option("--sort", "by", metavar="METRIC", help="Order the runs by their newest value of a metric, best first.")
@output_options
def compare(terminal: Terminal, runs: tuple[Path, ...], by: str | None) -> None:
    """Compare runs by their metrics, progress, time and config.

    \b
    Examples:
      gancore compare runs/0001 runs/0002
      gancore compare runs
      gancore compare runs --sort fd-classifier

    A folder stands for all runs in it. Metrics are the newest of the log, with the score of real data; an arrow says
    whether lower or higher is better. Only keys in which configs differ are shown. Runs that differ only in their seed
    are also summarized by the median, the least and the greatest kimg, time and metrics. Notes say why numbers cannot
    be compared. Nothing is measured, imported or changed, so it also works while runs train.
    """  # noqa: D301  # click reads the backspace
    from gancore.report.caveats import caveats
    from gancore.report.collect import collect, expand
    from gancore.report.compare import (
        best_first,
        config_differences,
        essential,
        metric_names,
        over_seeds,
        repeated_seeds,
    )
    from gancore.utils.json import json_safe

    rows = [collect(path) for path in expand(runs)]
    metrics = metric_names(rows)
    if by is not None:
        rows = best_first(rows, by)
    above, names = _names([row.path for row in rows])
    differences = config_differences([row.config for row in rows])
    notes = [*caveats(rows, names), *repeated_seeds(rows, names)]
    if not metrics:
        notes.append("no run has metrics to compare; gancore evaluate RUN measures one")
    document = {
        "runs": [_document(row) for row in rows],
        "differences": [{"key": row.key, "values": list(row.values)} for row in differences],
        "seeds": [
            {
                "runs": [str(rows[position].path) for position in group.members],
                "seeds": [rows[position].config.get("seed") for position in group.members],
                "kimg": vars(group.kimg) if group.kimg else None,
                "seconds": vars(group.seconds) if group.seconds else None,
                "metrics": {name: vars(spread) for name, spread in group.metrics.items()},
            }
            for group in over_seeds(rows)
        ],
        "notes": notes,
    }

    def text() -> None:
        if above:
            echo(f"runs in {printable(above)}")
        _print_rows(rows, names, metrics)
        _print_over_seeds(rows, names, metrics)
        if differences:
            shown = essential(differences)
            echo("")
            _print_differences(shown, names)
            if hidden := len(differences) - len(shown):
                echo(f"and {hidden} {'field' if hidden == 1 else 'fields'} of components that the others lack: --json")

    terminal.result(json_safe(document), text)
    for note in notes:
        terminal.note(f"note: {printable(note)}")


def _names(paths: Sequence[Path]) -> tuple[str, list[str]]:
    """Return the folder that long paths share, empty for short ones, and how the runs are named in tables."""
    names = [printable(str(path)) for path in paths]
    parents = {str(path.parent) for path in paths}
    if len(parents) == 1 and max(map(len, names)) > _LONG and all(path.name for path in paths):
        return f"{parents.pop().rstrip(os.sep)}{os.sep}", [printable(path.name) for path in paths]
    return "", names


def _heading(rows: Sequence[RunSummary], name: str) -> str:
    """Return the name of a metric, with an arrow to better values where one can be printed."""
    from gancore.report.compare import better_of

    return printable(name) + (_ARROWS.get(better_of(rows, name) or "", "") if can_show_curves() else "")


def _print_rows(rows: Sequence[RunSummary], names: Sequence[str], metrics: Sequence[str]) -> None:
    """Print a row for each run, and one for real data. If metrics were measured in other ways, its score is with each.

    Scores of real data differ a little with the seed, so that row has the least and the greatest.
    """
    from gancore.report.caveats import are_comparable
    from gancore.utils.text import duration, short_number

    shared = [name for name in metrics if are_comparable(name, rows)]
    machines = [_machine(row) for row in rows]
    with_machines = len(set(machines)) > 1
    header = ["run", "steps", "kimg", "time", "img/s", *(_heading(rows, name) for name in metrics)]

    def cells(row: RunSummary) -> Iterator[str]:
        yield f"{row.step:,}"
        yield f"{row.kimg:,.1f}"
        yield duration(row.seconds)
        yield "-" if row.images_per_second is None else f"{row.images_per_second:,.0f}"
        for score in map(row.scores.get, metrics):
            with_real = score and score.name not in shared and score.real_data is not None
            of_real = f" (real {short_number(score.real_data)})" if score and with_real else ""
            yield f"{short_number(score.value)}{of_real}" if score else "-"

    table = [
        [name, *cells(row), *([machine] if with_machines else [])]
        for name, row, machine in zip(names, rows, machines, strict=True)
    ]
    if shared:
        table.append(["real data", *[""] * 4, *(_real_data(rows, name) if name in shared else "" for name in metrics)])
    print_table([*header, *(["machine"] if with_machines else [])], table)


def _real_data(rows: Sequence[RunSummary], name: str) -> str:
    """Return the least and the greatest score of real data."""
    from gancore.utils.text import short_number

    known = [row.scores[name].real_data for row in rows if name in row.scores]
    scores = sorted(value for value in known if value is not None)
    return " to ".join(dict.fromkeys(short_number(value) for value in (scores[0], scores[-1]))) if scores else "-"


def _machine(row: RunSummary) -> str:
    """Return the machine of a run in words, empty if it is not known."""
    known = row.manifest
    if "device" not in known:
        return ""
    ranks = known.get("ranks")
    processes = f", {ranks} processes" if isinstance(ranks, int) and ranks > 1 else ""
    if known["device"] != "cpu":
        return f"{known['device']}{processes}"
    return f"{known.get('machine')}, {known.get('processors')} processors{processes}"


def _print_over_seeds(runs: Sequence[RunSummary], names: Sequence[str], metrics: Sequence[str]) -> None:
    """Print a row for each group of runs over seeds: the median, and the least and the greatest value."""
    from gancore.report.compare import over_seeds
    from gancore.utils.text import duration, short_number

    def cell(spread: Spread | None, count: int, text: Callable[[float], str]) -> str:
        if spread is None:
            return "-"
        middle, low, high = text(spread.median), text(spread.low), text(spread.high)
        of = f", {spread.count} of {count}" if spread.count < count else ""
        return (middle if low == high else f"{middle} [{low}, {high}]") + of

    table = []
    for group in over_seeds(runs):
        first, *_, last = [names[position] for position in group.members]
        count = len(group.members)
        scores = (cell(group.metrics.get(name), count, short_number) for name in metrics)
        kimg, time = cell(group.kimg, count, "{:,.1f}".format), cell(group.seconds, count, duration)
        table.append([f"{first} to {last} ({count} runs)", kimg, time, *scores])
    if table:
        echo("")
        print_table(["median over seeds", "kimg", "time", *(_heading(runs, name) for name in metrics)], table)


def _print_differences(differences: Sequence[ConfigDifference], names: Sequence[str]) -> None:
    """Print a column for each run if they are few, else a line for each value with the runs that have it."""
    if len(names) <= _MOST_COLUMNS:
        print_table(["config", *names], [[printable(row.key), *map(_value, row.values)] for row in differences])
        return
    table = []
    for row in differences:
        key, runs = printable(row.key), dict[str, list[str]]()
        for value, name in zip(row.values, names, strict=True):
            runs.setdefault(_value(value), []).append(name)
        for value, of in runs.items():
            table.append([key, value, ", ".join(of)])
            key = ""
    print_table(["config", "value", "runs"], table)


def _value(value: object) -> str:
    from gancore.config.toml import literal

    return "absent" if value is None else literal(value)


def score_document(score: Score) -> dict[str, object]:
    """Return a metric of a run as plain data."""
    best = score.best
    return {
        "value": score.value,
        "step": score.step,
        "better": score.better,
        "real_data": score.real_data,
        "best": None if best is None else {"step": best[0], "value": best[1]},
    }


def _document(row: RunSummary) -> dict[str, Any]:  # Any: JSON
    known: Mapping[str, Any] = row.manifest
    return {
        "run": str(row.path),
        "recipe": known.get("recipe"),
        "seed": row.config.get("seed"),
        "step": row.step,
        "epoch": row.epoch,
        "kimg": row.kimg,
        "seconds": row.seconds,
        "images_per_second": row.images_per_second,
        "done": row.done,
        "metrics": {name: score_document(score) for name, score in row.scores.items()},
        "machine": {key: known.get(key) for key in ("device", "machine", "processors", "threads", "ranks")},
        "problems": list(row.notes),
    }
