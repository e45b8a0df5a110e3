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


class ConfigError(GancoreError):
    """A name, key, type or range in the run's config is wrong."""


class DataError(GancoreError):
    """Input data is missing, damaged, or not of the promised form."""


class CheckpointError(GancoreError):
    """A file is no checkpoint, a damaged one, or one of another format."""


class PluginError(GancoreError):
    """A plugin could not be used, or broke the contract."""


class NumericsError(GancoreError):
    """Training has gone wrong in its numbers: samples without diversity, or values that are not finite."""


class StorageError(GancoreError):
    """Something could not be written."""


@contextmanager
def blamed(part: str) -> Iterator[None]:
    """Whatever a stranger's code raises in this block is the failure of `part`, as a PluginError."""
    try:
        yield
    except GancoreError:
        raise
    except Exception as error:
        raise PluginError(
            f"the {part} failed: {type(error).__name__}: {error}", "-v shows where; see docs/contract.md"
        ) from error


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence for a name that nobody knows: the nearest names, and the whole list."""
    names = sorted(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    near = [folded[match] for match in get_close_matches(name.casefold(), folded, n=2, cutoff=0.5)]
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"unknown {what} {name!r}{guess} Known: {', '.join(names) or 'none'}"
