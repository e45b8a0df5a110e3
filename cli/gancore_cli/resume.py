"""The command `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gancore_cli.catalog import open_catalog
from gancore_cli.options import Terminal, data_dir, device, output_options
from gancore_cli.running import joined_ranks, show_run, total_of, totals
from gancore_cli.signals import interruption


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@totals
@data_dir
@device
@output_options
def resume(
    terminal: Terminal,
    run: Path,
    data_dir: Path | None,
    device: str,
    **flags: Any,  # Any: the values of the options for the total
) -> None:
    """Resume a run that ended before its total.

    \b
    Resume a run:
      gancore resume runs/0001
    Train a finished run for longer:
      gancore resume runs/0001 --epochs 100

    The run resumes from its newest valid checkpoint and ends as if it had not been interrupted. A total counts from the
    very first step, so a longer one extends the run.
    """  # noqa: D301  # click reads the backspace
    total_of(flags)
    with joined_ranks(terminal, device) as (terminal, ranks):
        from gancore.run.run import open as open_run

        opened = open_run(run, data_dir=data_dir, device=device, catalog=open_catalog(terminal), ranks=ranks)
        records = opened.resume(**flags, progress=terminal.display(), interruption=interruption())
        show_run(terminal, opened, records, ranks)
