"""SIGINT and SIGTERM: the first ends a command in good order, the second at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gancore.interruption import Interruption

_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""And what they do to a command."""
_PLACE = "gancore.interruption"


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Signals arrive at the interruption in this block; one that has arrived leaves the process to its end with it."""
    from gancore.interruption import Interruption

    interruption = Interruption()

    def arrive(number: int, _frame: FrameType | None) -> None:
        if interruption.signal is not None:
            os._exit(128 + number)  # what is being written has another name until it is whole
        interruption.arrive(number)

    before = {number: signal.signal(number, arrive) for number in _SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items() if interruption.signal is None else ():
            signal.signal(number, handler)


def interruption() -> Interruption:
    """That of the command that is running; one that nothing arrives at, outside of the program."""
    from gancore.interruption import Interruption

    found = click.get_current_context().meta.get(_PLACE)
    return found if isinstance(found, Interruption) else Interruption()


def hand_on(context: click.Context) -> None:
    """Keeps the program's interruption, which it gave as the object of its first context, for all commands."""
    context.meta[_PLACE] = context.obj


def outcome(error: BaseException | None) -> tuple[int, str]:
    """The exit code of a process that was asked to end, and what has happened to it."""
    while error is not None and not isinstance(getattr(error, "signal", None), int):
        error = error.__cause__ or error.__context__
    number: int = getattr(error, "signal", signal.SIGINT)
    return 128 + number, _SIGNALS[signal.Signals(number)]
