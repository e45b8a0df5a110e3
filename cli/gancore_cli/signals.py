"""SIGINT and SIGTERM: the first signal ends a command in an orderly way, the second one ends it at once."""

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
"""The signals that end a command, each with the message for the user."""
_META_KEY = "gancore.signals"
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""The environment variable that torchrun sets in the processes it starts."""


class EarlySignal(KeyboardInterrupt):
    """A signal received before a run has started, when the command can stop at any point."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Interrupted(Exception):  # noqa: N818  # it is no error
    """Ctrl-C, with what is kept and what to do next."""

    def __init__(self, kept: str, hint: str) -> None:
        super().__init__()
        self.kept, self.hint = kept, hint


class SignalHandler:
    """Handles SIGINT and SIGTERM, and passes them to the `interruption` of a run once it is set."""

    def __init__(self) -> None:
        self.received = False
        self.interruption: Interruption | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Raise EarlySignal or notify the run. A second signal ends the process at once."""
        if self.received:
            os._exit(128 + number)  # safe: a file that is being written has a temporary name until it is complete
        self.received = True
        if self.interruption is None:
            raise EarlySignal(number)
        self.interruption.arrive(number)


@contextmanager
def handle_signals() -> Iterator[SignalHandler]:
    """Handle SIGINT and SIGTERM in this block. After a signal the handler stays until the process exits."""
    handler = SignalHandler()
    previous = {number: signal.signal(number, handler.handle) for number in _SIGNALS}
    try:
        yield handler
    finally:
        # torchrun terminates all processes once one has failed. Those that are exiting keep their own exit codes.
        under_torchrun = TORCHRUN in os.environ
        for number, action in previous.items() if under_torchrun or not handler.received else ():
            signal.signal(number, signal.SIG_IGN if under_torchrun else action)


def share_handler(context: click.Context) -> None:
    """Make the handler, which `main` passes as the object of the root context, available to all commands."""
    context.meta[_META_KEY] = context.obj


def interruption() -> Interruption:
    """Return a new Interruption that receives signals from now on; outside of `main` it receives none."""
    from gancore.run.interrupt import Interruption

    created = Interruption()
    handler = click.get_current_context().meta.get(_META_KEY)
    if isinstance(handler, SignalHandler):
        handler.interruption = created
    return created


def signal_status(error: BaseException | None) -> tuple[int, str]:
    """Return the exit code and the message for an error that was caused by a signal."""
    while error is not None and not isinstance(getattr(error, "signal", None), int):
        error = error.__cause__ or error.__context__
    number: int = getattr(error, "signal", signal.SIGINT)
    return 128 + number, _SIGNALS[signal.Signals(number)]
