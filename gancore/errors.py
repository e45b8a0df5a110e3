"""Errors that a user can fix, one class per place to fix them. The library raises them; only the CLI prints them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class GancoreError(Exception):
    """An error that the user can fix.

    `message` says what is wrong and with which value; `hint` says how to fix it, as a short imperative; `kept` says
    which files are safe, if the raising code knows.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kept = ""
        if hint:
            self.add_note(f"hint: {hint}")  # shown in a traceback; the command line prints `hint` instead

    def __str__(self) -> str:
        return self.message


class ConfigError(GancoreError):
    """A name, key, type or range in the run's config is wrong."""


class DataError(GancoreError):
    """Input data is missing, damaged, or of the wrong form."""


class CheckpointError(GancoreError):
    """A file is not a checkpoint, is damaged, or has another format version."""


class PluginError(GancoreError):
    """A plugin failed or broke the contract. `part` names the component that caused it, if known."""

    part = ""


class NumericsError(GancoreError):
    """Training diverged or collapsed: values are not finite, or samples have lost their diversity."""


class NonFiniteError(NumericsError):
    """A value is NaN, infinite, or too large to continue: `what`, at `step`."""

    def __init__(self, step: int, what: str) -> None:
        hint = (
            "try a lower learning rate, or training.clip_norm; "
            "--set training.on_nonfinite=rollback returns to the last checkpoint and continues"
        )
        super().__init__(f"at step {step}, {what}", hint)
        self.step, self.what = step, what


class StorageError(GancoreError):
    """A file could not be written."""


class InUseError(GancoreError):
    """Another process uses the run directory."""


class WorkerError(GancoreError):
    """A worker process of the run died."""


@contextmanager
def blame(part: str, doing: str = "") -> Iterator[None]:
    """Raise any exception of this block as a PluginError that blames `part`.

    `doing` says what the part was doing, as in `in build()`. SystemExit counts too: no component may end the process.
    KeyboardInterrupt, GeneratorExit and gancore's own errors pass unchanged.
    """
    try:
        yield
    except PluginError as error:
        error.part = error.part or part
        error.hint = error.hint or "see docs/contract.md"
        raise
    except (GancoreError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        what = f"the {part} failed {doing}" if doing else f"the {part} failed"
        failure = PluginError(f"{what}: {describe_error(error)}", "-v shows where; see docs/contract.md")
        failure.part = part
        raise failure from error


@contextmanager
def during(when: str) -> Iterator[None]:
    """Prefix the message of a PluginError in this block with the time at which it happened."""
    try:
        yield
    except PluginError as error:
        error.message = f"{when}, {error.message}"
        raise


def describe_error(error: BaseException) -> str:
    """Return an exception as one line. A plugin's exception may fail to give its message."""
    try:
        text = " ".join(str(error).split())
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # SystemExit too
        text = f"(no message: str() raised {type(failure).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def unknown_name(what: str, name: str, known: Iterable[str], *, in_order: bool = False) -> str:
    """Return the message for an unknown name: the nearest known names, then all, sorted unless they are `in_order`."""
    names = list(known) if in_order else sorted(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    near = [folded[match] for match in get_close_matches(name.casefold(), folded, n=2, cutoff=0.5)]
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"unknown {what} {name!r}{guess} Known: {', '.join(names) or 'none'}"
