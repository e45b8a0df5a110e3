"""Showing the progress of commands on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gancore_cli.options import Terminal, echo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gancore.evaluation.train_extractor import Preparation
    from gancore.run.progress import Display


class Interrupted(Exception):  # noqa: N818  # it is no error
    """Ctrl-C, with what is kept and what to do next."""

    def __init__(self, kept: str, hint: str) -> None:
        super().__init__()
        self.kept, self.hint = kept, hint


def display_of(terminal: Terminal) -> Display:
    """Return the display for the progress of a command."""
    from gancore.run.progress import Display, ProgressDisplay

    return Display() if terminal.quiet else ProgressDisplay(lambda line: echo(line, err=True), verbose=terminal.verbose)


def show_preparation(terminal: Terminal, preparations: Iterator[Preparation]) -> None:
    """Do all the work that must be done before measuring, and show how far it is."""
    display_of(terminal).prepare(preparations)


def brief(number: float | None) -> str:
    """Return a number with four significant digits; `-` for None and NaN."""
    from gancore.run.progress import brief

    return brief(number)
