"""What can go wrong through no fault of gancore's own, one class for each place where the mend lies.

The library raises these and prints nothing; the command line alone turns them into text and an exit code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class GancoreError(Exception):
    """An error that its reader can mend.

    `message` states the invariant and the value received; `hint` is the likely mend, as a short imperative; `kept`
    says what is safe, for whoever knows.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kept = ""

    def __str__(self) -> str:
        return self.message


class ConfigError(GancoreError):
    """A name, key, type or range in the run's config is wrong."""


class DataError(GancoreError):
    """Input data is missing, damaged, or not of the promised form."""


class CheckpointError(GancoreError):
    """A file is no checkpoint, a damaged one, or one of another format."""


class PluginError(GancoreError):
    """A plugin could not be used, or broke the contract. `part` is whose fault it is, where that is known."""

    part = ""


class NumericsError(GancoreError):
    """Training has gone wrong in its numbers: samples without diversity, or values that are not finite."""


class NonFiniteError(NumericsError):
    """Something is NaN or infinite, or too large to go on with: `what`, at `step`."""

    def __init__(self, step: int, what: str) -> None:
        hint = "try a lower learning rate, or training.clip_norm; --set training.on_nonfinite=rollback goes back and on"
        super().__init__(f"at step {step}, {what}", hint)
        self.step, self.what = step, what


class StorageError(GancoreError):
    """Something could not be written."""


class InUseError(GancoreError):
    """Another process has the folder of a run."""


class WorkerError(GancoreError):
    """A process that worked for the run is gone."""


@contextmanager
def blame(part: str, doing: str = "") -> Iterator[None]:
    """Whatever a stranger's code raises in this block is the failure of `part`, as a PluginError.

    `doing` says what it was asked to do, as `in build()`. SystemExit and its like are failures too: no part ends the
    process. Only Ctrl-C passes, and the closing of a generator that yields in this block.
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
def during(moment: str) -> Iterator[None]:
    """A plugin's failure in this block is told with when it happened."""
    try:
        yield
    except PluginError as error:
        error.message = f"{moment}, {error.message}"
        raise


def describe_error(error: BaseException) -> str:
    """An exception in a line. That of a stranger may fail at this too."""
    try:
        text = " ".join(str(error).split())
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:  # SystemExit too
        text = f"(its message cannot be had: {type(trouble).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence for a name that nobody knows: the nearest names, and the whole list."""
    names = sorted(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    near = [folded[match] for match in get_close_matches(name.casefold(), folded, n=2, cutoff=0.5)]
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"unknown {what} {name!r}{guess} Known: {', '.join(names) or 'none'}"
