"""The command `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog
from gancore_cli.options import Terminal, data_dir, device, output_options
from gancore_cli.running import batch_size, joined_ranks, precision, show_run, threads, total_of, totals
from gancore_cli.signals import interruption


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN", shell_complete=completers.runs)
@totals
@click.option("--data", type=click.Path(path_type=Path), metavar="PATH", help="Where the files of the dataset are now.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change a key of the config that a run can change, such as optimizer.generator.lr; none removes the key.",
    shell_complete=completers.settings,
)
@batch_size
@precision
@threads
@data_dir
@device
@output_options
def resume(
    terminal: Terminal,
    run: Path,
    data: Path | None,
    assignments: tuple[str, ...],
    batch_size: int | None,
    precision: str | None,
    threads: int | str | None,
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
    Follow data that was moved:
      gancore resume runs/0001 --data /mnt/new/pictures
    Continue with other settings:
      gancore resume runs/0001 --set optimizer.generator.lr=1e-4

    The run resumes from its newest valid checkpoint and ends as if it had not been interrupted. A total counts from the
    very first step, so a longer one extends the run. Batch size, precision, threads, optimizer, EMA, regularizers and
    what is recorded can be changed; the run's manifest notes it, and what ends bit-exactness is said.
    """  # noqa: D301  # click reads the backspace
    total_of(flags)
    options = {"batch_size": batch_size, "training.precision": precision, "training.threads": threads}
    settings: dict[str, object] = {key: value for key, value in options.items() if value is not None}
    with joined_ranks(terminal, device) as (terminal, ranks):
        from gancore.run.run import open as open_run

        opened = open_run(run, data_dir=data_dir, device=device, catalog=open_catalog(terminal), ranks=ranks)
        settings |= _read(assignments)
        records = opened.resume(
            **flags, data=data, set=settings, progress=terminal.display(), interruption=interruption()
        )
        show_run(terminal, opened, records, ranks)


def _read(assignments: tuple[str, ...]) -> dict[str, object]:
    """Return keys and values. Raise ConfigError for an invalid assignment."""
    from gancore.config.layers import assignment, parse_value

    settings = {}
    for text in assignments:
        assignment(text)  # only to find out whether it is valid
        key, _, value = text.partition("=")
        settings[".".join(part.strip() for part in key.split("."))] = parse_value(value)
    return settings
