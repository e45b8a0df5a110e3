"""Signals that end a command: the first one ends it in an orderly way, a second one ends it at once.

Python delivers a signal as an exception, which code of a plugin can swallow or turn into another one. So the handler
keeps the number of the signal, and commands look for it where they can stop: see `check_signal`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gancore.run.interrupt import Interruption

_SIGNALS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal or the connection has closed (SIGHUP)",
    signal.SIGXCPU: "the limit of processor time is reached (ulimit -t)",
}
"""The signals that end a command, each with the message for the user."""
_DELIBERATE = (signal.SIGINT, signal.SIGTERM)
"""Signals that a user or a scheduler sends again to end a command at once. A terminal that closes sends SIGHUP up to
three times, and the system repeats SIGXCPU every second."""
_ONE_SIGNAL_S = 0.05
"""Equal signals within this time count as one: `timeout`, for example, sends one to a process and one to its group."""
_META_KEY = "gancore.signals"


class EarlySignal(KeyboardInterrupt):
    """A signal received before a run has started, when the command can stop at any point."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class Interrupted(Exception):  # noqa: N818  # it is no error
    """A signal, with what is kept and what to do next."""

    def __init__(self, kept: str, hint: str) -> None:
        super().__init__()
        self.kept, self.hint = kept, hint


class SignalHandler:
    """Handles signals that end a command, and passes them to the `interruption` of a run once it is set."""

    def __init__(self) -> None:
        self.received: int | None = None
        """The number of the first signal."""
        self.interruption: Interruption | None = None
        self._asked: tuple[int, float] | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Raise EarlySignal or notify the run. A second Ctrl-C or SIGTERM ends the process at once."""
        if number in _DELIBERATE:
            now = monotonic()
            if self._asked is None:
                self._asked = number, now
            elif number != self._asked[0] or now - self._asked[1] > _ONE_SIGNAL_S:
                os._exit(128 + number)  # safe: a file that is being written has a temporary name until it is complete
        if self.received is not None:
            return
        self.received = number
        if self.interruption is None:
            raise EarlySignal(number)
        self.interruption.arrive(number)

    def check(self) -> None:
        """Raise the exception of the signal again if one has arrived."""
        if self.received is None:
            return
        if self.interruption is None:
            raise EarlySignal(self.received)
        self.interruption.check()


@contextmanager
def handle_signals() -> Iterator[SignalHandler]:
    """Handle the signals in this block. After a signal the handler stays until the process exits.

    SIGHUP stays ignored where it is ignored, as below `nohup`. SIGINT does not: shells start jobs in the background
    with SIGINT ignored, and `kill -INT` is still to end them.
    """
    handler = SignalHandler()
    ignored = {number for number in (signal.SIGHUP, signal.SIGXCPU) if signal.getsignal(number) is signal.SIG_IGN}
    previous = {number: signal.signal(number, handler.handle) for number in _SIGNALS if number not in ignored}
    try:
        yield handler
    finally:
        from gancore.distributed.launchers import is_launched

        # Launchers terminate all processes once one has failed. Those that are exiting keep their own exit codes.
        is_one_of_several = is_launched()
        if is_one_of_several or handler.received is None:
            for number, action in previous.items():
                signal.signal(number, signal.SIG_IGN if is_one_of_several else action)


def share_handler(context: click.Context) -> None:
    """Make the handler, which `main` passes as the object of the root context, available to all commands."""
    context.meta[_META_KEY] = context.obj


def _handler() -> SignalHandler | None:
    """Return the handler of `main`; None outside of it."""
    context = click.get_current_context(silent=True)
    handler = context.meta.get(_META_KEY) if context else None
    return handler if isinstance(handler, SignalHandler) else None


def interruption() -> Interruption:
    """Return a new Interruption that receives signals from now on; outside of `main` it receives none.

    Raises EarlySignal when a signal has arrived already.
    """
    from gancore.run.interrupt import Interruption

    check_signal()
    created = Interruption()
    if handler := _handler():
        handler.interruption = created
    return created


def check_signal() -> None:
    """Raise the exception of a signal that has arrived: code of a plugin may have swallowed it."""
    if handler := _handler():
        handler.check()


def signal_was_expected() -> None:
    """Forget a signal that has arrived, since it is how the command is meant to end."""
    if handler := _handler():
        handler.received = None


@contextmanager
def signals_checked() -> Iterator[None]:
    """Raise the exception of a signal that arrives in this block, whatever code of a plugin makes of it."""
    try:
        yield
    finally:
        check_signal()


def is_signal(error: BaseException | None) -> bool:
    """Return whether an error is a signal, or what code of a plugin has made of one.

    Other errors of gancore stand for themselves, such as a full disk that is found while a signal ends the run.
    """
    from gancore.errors import GancoreError, PluginError

    if isinstance(error, GancoreError) and not isinstance(error, PluginError):
        return False
    while error is not None and not isinstance(error, KeyboardInterrupt | Interrupted):
        error = error.__cause__ or error.__context__
    return error is not None


def signal_status(error: BaseException | None, received: int | None = None) -> tuple[int, str]:
    """Return the exit code and the message for an error that was caused by a signal, if unknown the one `received`."""
    while error is not None and not isinstance(getattr(error, "signal", None), int):
        error = error.__cause__ or error.__context__
    number: int = getattr(error, "signal", received or signal.SIGINT)
    return 128 + number, _SIGNALS[signal.Signals(number)]
