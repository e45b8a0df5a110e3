"""Options that several commands share, and how commands print."""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from gancore_cli import completers
from gancore_cli.signals import check_signal

if TYPE_CHECKING:
    from gancore.run.progress import Display

R = TypeVar("R")

SYSTEM_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EFBIG, errno.ESTALE),
}
"""Errors that the system or its user must fix, wherever in the code they occur."""


class OutPath(click.Path):
    """A path to write to; neither blank nor `-`, which stands for standard output elsewhere."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Return the path. Raise UsageError for a blank one and for `-`."""
        if os.fspath(value) in ("", "-"):
            self.fail(f"{value!r} is no file or folder; standard output cannot be written to.", param, ctx)
        return super().convert(value, param, ctx)


class OrderedGroup(click.Group):
    """A group whose help lists commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line. Raise StorageError when standard output cannot be written.

    Two failures are ignored, and all later output is discarded: the reader of a pipe has exited, or standard error
    cannot be written, for example because it is a file on a full disk.
    """
    try:
        click.echo(text, err=err)
    except OSError as error:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not err and not isinstance(error, BrokenPipeError):
            from gancore.errors import StorageError

            raise StorageError(
                f"cannot write the result: {error.strerror}", "free some space, or write the output to another place"
            ) from error


@dataclass(frozen=True)
class PluginOptions:
    """The options --no-plugins and --plugin."""

    no_plugins: bool = False
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Terminal:
    """How a command prints. Results go to `out`, which is standard output; everything else to standard error."""

    as_json: bool
    quiet: bool
    verbose: bool
    out: TextIO

    def result(self, document: object, text: Callable[[], None]) -> None:
        """Print the result of a command: one JSON document, or the text that `text` prints.

        Raises EarlySignal instead when a signal has arrived.
        """
        check_signal()
        with redirect_stdout(self.out):
            if self.as_json:
                echo(json.dumps(document, indent=2, allow_nan=False))
            elif not self.quiet:
                text()

    def note(self, message: str) -> None:
        """Print a note or warning, unless -q was given."""
        if not self.quiet:
            echo(message, err=True)

    def detail(self, message: str) -> None:
        """Print a detail if -v was given."""
        if self.verbose:
            echo(message, err=True)

    def display(self) -> Display:
        """Return the display for the progress of the command."""
        from gancore.run.progress import Display, ProgressDisplay

        return Display() if self.quiet else ProgressDisplay(lambda line: echo(line, err=True), verbose=self.verbose)


def output_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add `--json`, `-q` and `-v` to a command, and pass it the Terminal that they describe."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
    @click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Print more details.")
    @functools.wraps(function)
    def with_terminal(*, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> R:  # Any: the command's options
        if quiet and verbose:
            raise click.UsageError("-q and -v cannot be used together")
        with reserve_stdout() as out:
            return function(Terminal(as_json, quiet, verbose, out), **kwargs)

    return with_terminal


@contextmanager
def reserve_stdout() -> Iterator[TextIO]:
    """Yield standard output for results. Everything else that is printed in this block goes to standard error."""
    stdout = sys.__stdout__
    if stdout is None or sys.stdout is not stdout:  # closed, or redirected by the caller, for example a test
        redirected = sys.stdout
        with redirect_stdout(sys.stderr):
            yield redirected
        return
    stdout.flush()
    with open(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors) as results:
        os.dup2(2, 1)  # redirects subprocesses and C libraries too
        try:
            with redirect_stdout(sys.stderr):
                yield results
        finally:
            stdout.flush()
            os.dup2(results.fileno(), 1)


run_or_checkpoint = click.argument(
    "run",
    type=click.Path(path_type=Path),
    metavar="RUN|CHECKPOINT",
    shell_complete=completers.runs_and_checkpoints,
)
data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="GANCORE_DATA",
    help="Folder of dataset files.  [default: $GANCORE_DATA, else `data` in the cache folder]",
)
device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Device to compute on; auto is the first available of cuda, mps and cpu.",
)


raw = click.option("--raw", is_flag=True, help="Use the current weights, not their average (EMA).")
best = click.option("--best", is_flag=True, help="Use the best checkpoint of RUN, not the newest.")
refresh_batchnorm = click.option(
    "--refresh-batchnorm",
    is_flag=True,
    help="Estimate the statistics of batch normalization anew for these weights, from 4,096 samples.",
)
ema = click.option(
    "--ema",
    type=click.FloatRange(0, min_open=True),
    metavar="KIMG",
    help="Use the average (EMA) with this half-life, of those that the run kept: `ema.half_life_kimg` and "
    "`ema.more_kimg`.  [default: ema.half_life_kimg]",
)


def check_weights(*, raw: bool, ema: object) -> None:
    """Raise UsageError for weights that are current and averaged."""
    if raw and ema:
        raise click.UsageError("--raw and --ema cannot be used together")


def settings_of(what: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add `--set`, for keys of a dataset."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Set a key of {what}, as `train` takes it; `dataset.` may be left out: --set size=32.",
        shell_complete=completers.dataset_settings,
    )


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:  # Any: shown by str
    """Print a table that is as wide as the terminal, or 200 columns when standard output is not a terminal."""
    import shutil

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=position == 0)  # first column: names to copy, so never wrapped
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    width = shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else 200
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        echo(line.rstrip())
