"""The group `checkpoint`, with the command `verify`."""

from __future__ import annotations

from pathlib import Path

import click

from gancore_cli.options import Terminal, echo, output_options


@click.group()
def checkpoint() -> None:
    """Tell about checkpoints."""


@checkpoint.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN|FOLDER|CHECKPOINT")
@output_options
def verify(terminal: Terminal, path: Path) -> int:
    """Say which checkpoints are sound.

    Every byte of each is read, compared with the digest that was written with it, and held to the form of a checkpoint.
    No plugin is imported, and nothing is changed. Exits with 4 unless there is a checkpoint and all are sound.
    """
    from gancore.checkpoint.store import look, places
    from gancore.errors import CheckpointError

    verdicts = [look(file) for file in places(path)]
    if not verdicts:
        raise CheckpointError(f"there is no checkpoint in {path}", "name a run directory, like runs/0001")
    rows = [
        {
            "path": str(verdict.path),
            "step": verdict.step,
            "bytes": verdict.size,
            "sound": verdict.problem is None,
            "problem": verdict.problem,
        }
        for verdict in verdicts
    ]

    def text() -> None:
        for verdict in verdicts:
            step = "" if verdict.step is None else f"step {verdict.step:,}, "
            size = "" if verdict.size is None else f"{verdict.size:,} bytes, "
            echo(f"{verdict.path.name}: {step}{size}{f'not sound: {verdict.problem}' if verdict.problem else 'sound'}")

    terminal.result(rows, text)
    return 0 if all(verdict.problem is None for verdict in verdicts) else 4
