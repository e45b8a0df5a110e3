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
    from gancore.run.interrupt import Interruption

_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""And what they do to a command."""
_PLACE = "gancore.signals"
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""The variable by which torchrun tells a process that it has started it."""


class Ended(KeyboardInterrupt):
    """A signal has arrived where nothing must stay whole yet."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Signals:
    """Who is told of a signal: the interruption of a run, once there is one."""

    def __init__(self) -> None:
        self.arrived = False
        self.interruption: Interruption | None = None

    def arrive(self, number: int, _frame: FrameType | None) -> None:
        """The handler of both."""
        if self.arrived:
            os._exit(128 + number)  # what is being written has another name until it is whole
        self.arrived = True
        if self.interruption is None:
            raise Ended(number)
        self.interruption.arrive(number)


@contextmanager
def interruptible() -> Iterator[Signals]:
    """Signals arrive here in this block; one that has arrived leaves the process to its end with it."""
    signals = Signals()
    before = {number: signal.signal(number, signals.arrive) for number in _SIGNALS}
    try:
        yield signals
    finally:
        # torchrun ends all processes once one has failed; those that are at their end leave with a code of their own.
        leaving = TORCHRUN in os.environ
        for number, handler in before.items() if leaving or not signals.arrived else ():
            signal.signal(number, signal.SIG_IGN if leaving else handler)


def hand_on(context: click.Context) -> None:
    """Keeps the program's signals, which it gave as the object of its first context, for all commands."""
    context.meta[_PLACE] = context.obj


def interruption() -> Interruption:
    """What signals from now on arrive at; outside of the program none does."""
    from gancore.run.interrupt import Interruption

    found = Interruption()
    signals = click.get_current_context().meta.get(_PLACE)
    if isinstance(signals, Signals):
        signals.interruption = found
    return found


def outcome(error: BaseException | None) -> tuple[int, str]:
    """The exit code of a process that was asked to end, and what has happened to it."""
    while error is not None and not isinstance(getattr(error, "signal", None), int):
        error = error.__cause__ or error.__context__
    number: int = getattr(error, "signal", signal.SIGINT)
    return 128 + number, _SIGNALS[signal.Signals(number)]
