"""The group `checkpoint`, with the command `verify`."""

from __future__ import annotations

from pathlib import Path

import click

from gancore_cli import completers
from gancore_cli.options import Terminal, echo, output_options


@click.group()
def checkpoint() -> None:
    """Verify checkpoints."""


@checkpoint.command()
@click.argument(
    "path",
    type=click.Path(path_type=Path),
    metavar="RUN|FOLDER|CHECKPOINT",
    shell_complete=completers.runs_and_checkpoints,
)
@output_options
def verify(terminal: Terminal, path: Path) -> int:
    """Say which checkpoints are valid.

    Reads each checkpoint, compares it with the digest that was written with it, and checks its form. Imports no
    plugin, and changes nothing. Exits with 4 unless there is a checkpoint and all are valid.

    \b
    Example:
      gancore checkpoint verify runs/0001
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.checkpoint.store import find_checkpoints, verify
    from gancore.errors import CheckpointError
    from gancore.utils.paths import name_a_run

    results = [verify(file) for file in find_checkpoints(path)]
    if not results:
        raise CheckpointError(f"there is no checkpoint in {path}", name_a_run())
    rows = [
        {
            "path": str(result.path),
            "step": result.step,
            "bytes": result.size,
            "valid": result.problem is None,
            "problem": result.problem,
            "sha256": result.sha256,
        }
        for result in results
    ]

    def text() -> None:
        for result in results:
            step = "" if result.step is None else f"step {result.step:,}, "
            size = "" if result.size is None else f"{result.size:,} bytes, "
            echo(f"{result.path.name}: {step}{size}{f'not valid: {result.problem}' if result.problem else 'valid'}")
            if terminal.verbose and result.sha256:
                echo(f"  SHA-256 of its content: {result.sha256}")

    terminal.result(rows, text)
    return 0 if all(result.problem is None for result in results) else 4
