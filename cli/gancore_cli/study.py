"""The commands `study` and `study work`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import OrderedGroup, OutPath, Terminal, data_dir, device, echo, output_options, print_table
from gancore_cli.signals import Interrupted, interruption, is_signal

if TYPE_CHECKING:
    from gancore.study.results import StudyReport
    from gancore.study.study import Study


class StudyGroup(OrderedGroup):
    """A group whose first command needs no name: `study FILE.toml` is `study run FILE.toml`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, with the name of the first command if no command is named."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


storage = click.option(
    "--storage",
    metavar="URL",
    help="Database for the state, such as sqlite:///study.db.  [default: $GANCORE_STUDY_STORAGE unless the study in "
    "DIR began without a database, else `storage` of the study, else a file in DIR]",
)


@click.group(cls=StudyGroup)
def study() -> None:
    """Compare variants over seeds, or search for good settings.

    `gancore study FILE.toml --out DIR` is short for `gancore study run`. FILE.toml says what varies:

    \b
      base = "digits"
      budget = "20 kimg"
      seeds = 5
      metric = "fd-random"
      [variants.hinge]
      loss = "hinge"

    A search has a table `space` in place of variants, such as regularizers.r1.gamma = {log = [0.01, 100]}.
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b


@study.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.toml")
@click.option("--out", type=OutPath(path_type=Path), required=True, metavar="DIR", help="Folder of the study.")
@click.option(
    "--workers",
    type=click.IntRange(min=0, max=1024),
    default=1,
    show_default=True,
    help="Processes on this machine, which share its cores, or have a GPU each; 0 begins the study for others.",
)
@click.option("--retry", is_flag=True, help="Train runs again that an error has ended, from their newest checkpoints.")
@storage
@data_dir
@device
@output_options
def run(
    terminal: Terminal,
    file: Path,
    out: Path,
    workers: int,
    retry: bool,
    storage: str | None,
    data_dir: Path | None,
    device: str,
) -> None:
    """Train and measure all runs of a study, and compare them.

    What is wrong in FILE.toml is reported before the first run. The same command continues after an interruption, and
    adds seeds, variants and trials that were added to FILE.toml since. Runs are ordinary run folders in DIR/runs.

    \b
    Examples:
      gancore study hinge.toml --out studies/hinge
      gancore study hinge.toml --out studies/hinge --workers 2 --retry
      gancore report studies/hinge --open
    """  # noqa: D301  # as above
    opened = open_study(terminal, out, file, storage, data_dir, device)
    note = None if terminal.quiet else terminal.note

    def work() -> None:
        display = terminal.display()
        opened.run(workers=workers, retry=retry, progress=display, interruption=interruption(), note=note)

    _finish(terminal, opened, work)


@study.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@storage
@data_dir
@device
@output_options
def work(terminal: Terminal, folder: Path, storage: str | None, data_dir: Path | None, device: str) -> None:
    """Join a study as one more worker, here or on any machine that has DIR on shared storage.

    Ends when all runs are finished. A run whose worker has died is taken up from its newest checkpoint.

    \b
    Example:
      gancore study work studies/hinge
    """  # noqa: D301  # as above
    opened = open_study(terminal, folder, None, storage, data_dir, device)
    note = None if terminal.quiet else terminal.note
    _finish(terminal, opened, lambda: opened.work(interruption=interruption(), note=note))


def open_study(
    terminal: Terminal, folder: Path, file: Path | None, storage: str | None, data_dir: Path | None, device: str
) -> Study:
    """Return the study in a folder, or of a TOML file, with the plugins of the command."""
    from gancore.study.study import Study

    catalog = open_catalog(terminal)
    opened = Study(file, out=folder, data_dir=data_dir, device=device, catalog=catalog, storage=storage)
    warn(terminal, catalog)
    return opened


def _finish(terminal: Terminal, opened: Study, work: Callable[[], object]) -> None:
    """Do the work and print the result. An interruption says what is kept; the same command continues."""
    from gancore.report.page import REPORT

    try:
        work()
    except BaseException as error:
        if is_signal(error):
            raise Interrupted(f"the study in {opened.path}, and a checkpoint of each run", "") from error
        raise
    show_study(terminal, opened.report, opened.path / REPORT)


def show_study(terminal: Terminal, report: StudyReport, page: Path) -> None:
    """Print the table of a study, what may be concluded, and where its page is."""

    def text() -> None:
        heading, *lines = report.table()
        print_table(heading, lines)
        if legend := report.legend():
            echo(legend)
        if conclusions := report.conclusions():
            echo(f"{report.scope()}:")
        for sentence in conclusions:
            echo(sentence)
        echo(f"compared with {report.reported_by}")
        for warning in report.warnings():
            echo(f"warning: {warning}")
        if failed := [each for each in report.outcomes if report.failures[each.name]]:
            echo(f"failed or ended early: {len(failed)} of {len(report.outcomes)}, see the page")
        if errors := sum(each.is_error for each in report.outcomes):
            echo(f"ended by an error: {errors}; --retry trains them again from their newest checkpoints")
        echo(f"page: {page}")

    terminal.result({"out": str(page), **report.document()}, text)
