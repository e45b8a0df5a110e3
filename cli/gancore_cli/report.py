"""The command `report`."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import OutPath, Terminal, data_dir, device, echo, output_options
from gancore_cli.study import open_study, show_study


@click.command()
@click.argument(
    "runs",
    type=click.Path(path_type=Path),
    nargs=-1,
    required=True,
    metavar="RUN...|STUDY",
    shell_complete=completers.runs,
)
@click.option(
    "--out",
    type=OutPath(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Write the page to this file.  [default: report.html in RUN; of several runs, in this folder]",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@data_dir
@device
@output_options
def report(
    terminal: Terminal,
    runs: tuple[Path, ...],
    out: Path | None,
    opens: bool,
    data_dir: Path | None,
    device: str,
) -> None:
    """Write a page about a run, or about several side by side.

    One HTML file that needs nothing else: samples through training next to real data, curves, metrics with the score of
    real data, warnings, the training images nearest to samples, a map of latents to explore, the config with what
    differs from its recipe, machine and commands. RUN may be in training. Runs that differ only in their seed are shown
    as median and range. Of a study the page has its conclusions and all its runs.

    \b
    Examples:
      gancore report runs/0001
      gancore report runs/0001 runs/0002 --out comparison.html --open
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.report.page import page_of, target_of, write_page
    from gancore.report.view import Sources
    from gancore.study.definition import is_study
    from gancore.utils.paths import data_root
    from gancore.utils.text import file_size

    target = target_of(runs, out)
    if any(map(is_study, runs)):
        _report_study(terminal, runs, out, data_dir, device, opens=opens)
        return
    catalog = open_catalog(terminal)
    page = page_of(runs, Sources(catalog, device, data_root(data_dir)))
    warn(terminal, catalog, *page.notes)
    write_page(page, target)
    size = target.stat().st_size
    document = {"out": str(target), "bytes": size, "runs": [str(run) for run in runs], "notes": list(page.notes)}
    terminal.result(document, lambda: echo(f"{target}: {file_size(size)}"))
    _open(terminal, target, opens)


def _report_study(
    terminal: Terminal, runs: tuple[Path, ...], out: Path | None, data_dir: Path | None, device: str, *, opens: bool
) -> None:
    """Write the page about a study."""
    from gancore.study.definition import is_study

    folder = next(run for run in runs if is_study(run))
    if len(runs) > 1:
        raise click.UsageError(f"{folder} is a study, whose page has all its runs; name it alone")
    study = open_study(terminal, folder, None, None, data_dir, device)
    page = study.write_page(out)
    show_study(terminal, study.report, page)
    _open(terminal, page, opens)


def _open(terminal: Terminal, page: Path, opens: bool) -> None:
    """Open a page in the browser if that is wanted."""
    if opens and not webbrowser.open(page.absolute().as_uri()):
        terminal.note("warning: there is no browser that can be opened here")
