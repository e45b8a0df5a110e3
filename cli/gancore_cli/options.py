"""Options that several commands share, and how commands print."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

R = TypeVar("R")


def echo(text: str, *, err: bool = False) -> None:
    """Prints a line. A reader that has gone is no error, nor a log that is full: what is left to say goes nowhere.

    Raises StorageError for a result that cannot be written.
    """
    try:
        click.echo(text, err=err)
    except OSError as error:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not err and not isinstance(error, BrokenPipeError):
            from gancore.errors import StorageError

            raise StorageError(
                f"cannot write the result: {error.strerror}", "make room, or send it elsewhere"
            ) from error


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at the stream, which may be closed."""
    return stream is not None and stream.isatty()


@dataclass(frozen=True)
class Plugins:
    """What the command line says of plugins: none of third parties, and files that are plugins."""

    none: bool = False
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Terminal:
    """How much a command says. Results go to `out`, standard output; everything else to standard error."""

    as_json: bool
    quiet: bool
    verbose: bool
    out: TextIO

    def result(self, document: object, text: Callable[[], None]) -> None:
        """The result of a command: one JSON document, or text for a person."""
        with redirect_stdout(self.out):
            if self.as_json:
                echo(json.dumps(document, indent=2, allow_nan=False))
            elif not self.quiet:
                text()

    def note(self, message: str) -> None:
        """Something that a person who waits wants to know."""
        if not self.quiet:
            echo(message, err=True)

    def detail(self, message: str) -> None:
        """Something for `-v`."""
        if self.verbose:
            echo(message, err=True)


def output_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add `--json`, `-q` and `-v` to a command, and pass it the Terminal that they describe."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more about what is going on.")
    @functools.wraps(function)
    def with_terminal(*, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> R:  # Any: the command's options
        if quiet and verbose:
            raise click.UsageError("-q and -v cannot both be meant")
        with _kept_for_results() as out:
            return function(Terminal(as_json, quiet, verbose, out), **kwargs)

    return with_terminal


@contextmanager
def _kept_for_results() -> Iterator[TextIO]:
    """Standard output, as a stream. Whatever else is printed in this block, by whomever, goes to standard error."""
    stdout = sys.__stdout__
    if stdout is None or sys.stdout is not stdout:  # somebody else looks after it
        given = sys.stdout
        with redirect_stdout(sys.stderr):
            yield given
        return
    stdout.flush()
    with open(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors) as kept:
        os.dup2(2, 1)  # for programs that are started, and for what is not Python
        try:
            with redirect_stdout(sys.stderr):
                yield kept
        finally:
            stdout.flush()
            os.dup2(kept.fileno(), 1)


data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="GANCORE_DATA",
    help="Folder with the files of datasets.  [default: GANCORE_DATA, or `data` in the cache]",
)
device = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|mps",
    help="Where to compute; auto is the first that is there of cuda, mps and cpu.",
)


def cache_root() -> Path:
    """The folder for what can be made again: GANCORE_CACHE, or the user's own cache."""
    named = os.environ.get("GANCORE_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("gancore")


def data_root(given: Path | None) -> Path:
    """The folder with the files of datasets."""
    return given or cache_root() / "data"


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:  # Any: shown by str
    """A table for a person, as wide as the terminal; piped, as wide as it needs to be."""
    import shutil

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=place == 0)  # the first is a name, to be copied whole
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else 200
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        echo(line.rstrip())
