"""The command `show run RUN`: the state of a run at a glance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gancore_cli.compare import score_document
from gancore_cli.curves import can_show_curves, curves_of, in_words
from gancore_cli.hints import one_line_command, printable, with_plugins
from gancore_cli.options import PluginOptions, Terminal, echo

if TYPE_CHECKING:
    from gancore.run.status import RunStatus


def show_status(terminal: Terminal, path: Path) -> None:
    """Print how far a run is, who trains it, its newest numbers, what is wrong, and what can be done next."""
    from gancore.run.status import status_of
    from gancore.utils.json import json_safe
    from gancore.utils.text import file_size

    status = status_of(path)
    row, known = status.run, status.run.manifest
    options = click.get_current_context().find_object(PluginOptions) or PluginOptions()
    commands = [with_plugins(command, options) for command in status.next]
    document = {
        "run": str(row.path),
        "state": status.state,
        "process": status.holder,
        "recipe": known.get("recipe"),
        "duration": row.config.get("duration"),
        "done": row.done,
        "step": row.step,
        "epoch": row.epoch,
        "kimg": row.kimg,
        "seconds": row.seconds,
        "seconds_left": status.seconds_left,
        "images_per_second": row.images_per_second,
        "losses": {key: row.training_lines[-1][key] for key in _losses()} if row.training_lines else {},
        "metrics": {name: score_document(score) for name, score in row.scores.items()},
        "checkpoint": str(status.checkpoint) if status.checkpoint else None,
        "saved_step": status.saved if status.checkpoint else None,
        "best": str(status.best) if status.best else None,
        "bytes": status.size,
        "warnings": list(status.warnings),
        "next": commands,
    }

    def text() -> None:
        lines = [*_facts(status)]
        if can_show_curves():
            lines += curves_of(row)
        else:
            lines += [(score.name, in_words(score)) for score in row.scores.values()]
        lines += [("checkpoint", _checkpoint(status)), ("size", file_size(status.size))]
        width = max(10, *(len(key) for key, _ in lines)) + 2
        for key, value in lines:
            echo(f"{printable(key) + ':':<{width}}{printable(value)}")
        for warning in status.warnings:
            echo(f"{'warning:':<{width}}{printable(warning)}")
        for number, command in enumerate(commands):
            echo(f"{'' if number else 'next:':<{width}}{one_line_command(command)}")
        if parts := status.python_parts:
            given = ", ".join(f"{part}=…" if can_show_curves() else f"{part}=..." for part in parts)
            echo(f"{'next:':<{width}}in Python: gancore.open({str(row.path)!r}, {given})")

    terminal.result(json_safe(document), text)


def _losses() -> tuple[str, ...]:
    from gancore.report.summary import LOSSES

    return LOSSES


def _facts(status: RunStatus) -> Iterator[tuple[str, str]]:
    from gancore.utils.text import duration

    row, known = status.run, status.run.manifest
    yield "run", str(row.path)
    yield "from", _source(status)
    yield "state", f"training, by {status.holder}" if status.holder else status.state
    part = "" if row.done is None else f", {min(row.done, 1):.0%} of {row.config.get('duration')}"
    left = "" if status.seconds_left is None or not status.holder else f", {duration(status.seconds_left)} left"
    yield "progress", f"step {row.step:,}{part}{left}"
    epochs = "" if row.epoch is None else f", {row.epoch:.2f} epochs"
    yield "data seen", f"{row.kimg:,.1f} kimg{epochs}"
    speed = "" if row.images_per_second is None else f", {row.images_per_second:,.0f} images/s"
    device = f" on {known['device']}" if "device" in known else ""
    yield "time", f"{duration(row.seconds)}{speed}{device}"


def _source(status: RunStatus) -> str:
    """Return what the run was made from: a recipe, and the data."""
    row = status.run
    recipe = row.manifest.get("recipe")
    dataset = row.config.get("dataset", {})
    data = dataset.get("path") or dataset.get("name") or "unknown data"
    origin = f"recipe {recipe}, " if recipe else ""
    return f"{origin}data {data}, seed {row.config.get('seed', 0)}"


def _checkpoint(status: RunStatus) -> str:
    if status.checkpoint is None:
        return "no valid one"
    best = ", and the best one" if status.best else ""
    behind = f" (the log is at step {status.run.step:,})" if status.saved < status.run.step else ""
    return f"{status.checkpoint}{behind}{best}"
