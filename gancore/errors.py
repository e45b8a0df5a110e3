"""Errors that a user can fix, one class per place to fix them. The library raises them; only the CLI prints them."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

_MOST_NAMES = 10_000
"""Names in a folder that are compared with one that is missing."""


class GancoreError(Exception):
    """An error that the user can fix.

    `message` says what is wrong and with which value; `hint` says how to fix it, as a short imperative; `kept` says
    which files are safe, if the raising code knows; `problems` are the numbered parts of a message about several.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kept = ""
        self.problems: Sequence[str] = ()
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


class ResourceError(GancoreError):
    """Memory, threads, processes or open files ran out."""


_MEMORY = re.compile(
    "can't allocate memory|Cannot allocate memory|out of memory|not enough memory|bad_alloc|ALLOC_FAILED"
    "|failed to map segment|std::length_error"
)
_FILES = re.compile(re.escape(os.strerror(errno.EMFILE)))
_THREADS = "can't start new thread"


def exhausted(error: BaseException) -> ResourceError | None:
    """Return an error that names what ran out, its limit and how to continue, if that is why `error` was raised.

    Python, torch and the drivers of devices raise errors of many types, so their texts decide.
    """
    if isinstance(error, ResourceError):
        return error
    if isinstance(error, GancoreError):
        # A file that says it is huge, which its reader reports, is no lack of memory.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else None
        # A fork fails with EAGAIN where processes are limited; elsewhere a call would only have had to wait.
        is_fork = isinstance(error, WorkerError) and cause is not None and cause.errno == errno.EAGAIN
        found = _no_threads() if is_fork else exhausted(cause) if cause else None
        return ResourceError(f"{error.message}; {found.message}", found.hint) if found else None
    if not isinstance(error, MemoryError | OSError | RuntimeError | ImportError | SystemError):
        return None
    text, code = _message_of(error), error.errno if isinstance(error, OSError) else None
    if type_name(error) == "OutOfMemoryError" or re.search("(CUDA|MPS|HIP).*out of memory|CUBLAS.*ALLOC", text):
        reason = ". ".join(text.split(". ")[:3]).removesuffix(".")
        hint = "use a smaller --batch-size or --set training.accumulate=2, or end other programs on the device"
        return ResourceError(f"the memory of the device ran out: {reason}", hint)
    if code == errno.ENFILE:
        return ResourceError("the system has no more open files", "end other programs, or ask its administrator")
    if code == errno.EMFILE or _FILES.search(text):
        hint = f"{_higher_limit_of_files()}; in a run with worker processes, --set training.workers=0 needs fewer"
        return ResourceError(f"this process may open {_limit('NOFILE')} files (ulimit -n)", hint)
    if _THREADS in text:
        return _no_threads()
    of_import = isinstance(error, SystemError) and _limit("AS") != "any number of"
    if isinstance(error, MemoryError) or code == errno.ENOMEM or of_import or _MEMORY.search(text):
        asked = re.search(r"tried to allocate (\d+) bytes", text)
        what = f"memory ran out{f' when {int(asked[1]):,} bytes were needed' if asked else ''}"
        hint = "use a smaller --batch-size or --set training.accumulate=2, or end other programs"
        if _limit("AS") != "any number of":
            what += f": this process may have {_limit('AS')} bytes (ulimit -v)"
            hint = f"raise the limit, as in: ulimit -v unlimited; or {hint.removesuffix(', or end other programs')}"
        return ResourceError(what, hint)
    return None


def _no_threads() -> ResourceError:
    hint = "raise the limit, end other programs, or use fewer: OMP_NUM_THREADS=1, --set training.workers=0"
    what = "no more threads or processes can be started"
    return ResourceError(f"{what}: this user may have {_limit('NPROC')} (ulimit -u), a container fewer", hint)


def _limit(name: str) -> str:
    """Return the soft limit of a resource of this process."""
    soft, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    return "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"


def _higher_limit_of_files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    higher = max(4096, 2 * soft)
    if soft == hard != resource.RLIM_INFINITY:  # this shell may raise it no further
        return f"raise the limit in a new shell, or as the administrator, as in: ulimit -n {higher}"
    return f"raise the limit, as in: ulimit -n {higher if hard == resource.RLIM_INFINITY else min(higher, hard)}"


@contextmanager
def blame(part: str, doing: str = "") -> Iterator[None]:
    """Raise any exception of this block as a PluginError that blames `part`.

    `doing` says what the part was doing, as in `in build()`. SystemExit counts too: no component may end the process.
    KeyboardInterrupt, GeneratorExit and gancore's own errors pass unchanged. Memory, threads or files that ran out
    become a ResourceError, which does not blame the part.
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
        if limit := exhausted(error):
            limit.message = f"{part}: {limit.message}"
            raise limit from error
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
    """Return an exception as one line. A plugin's exception may fail to give its message or its name."""
    name, text = type_name(error), one_line(_message_of(error))
    return f"{name}: {text}" if text else name


def why_not_imported(error: ImportError, package: str) -> str:
    """Return that a package is not installed, or why it cannot be imported. Raise ResourceError if memory ran out."""
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == package:
        return "is not installed"
    if limit := exhausted(error):
        raise limit from error
    return f"cannot be imported: {describe_error(error)}"


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failure:  # SystemExit and KeyboardInterrupt too; the command line remembers a signal
        return f"(no message: str() raised {type_name(failure)})"


def type_name(value: object) -> str:
    """Return the name of the class of a value as one line. The class of a plugin may override `__name__`."""
    return one_line(type.__dict__["__name__"].__get__(type(value)))


def one_line(text: str) -> str:
    """Return text as one line: white space as single blanks, other characters that do not print as escapes."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in " ".join(str.split(text))
    )


def similar_names(name: str, known: Sequence[str], cutoff: float = 0.5) -> list[str]:
    """Return the known names that are most similar to a name, two at most."""
    folded = {candidate.casefold(): candidate for candidate in reversed(known)}
    return [folded[match] for match in get_close_matches(name.casefold(), folded, n=2, cutoff=cutoff)]


def did_you_mean(path: Path, otherwise: str = "check the path") -> str:
    """Return a hint for a path without anything: a path whose name is similar, in the nearest folder that exists."""
    missing = next((each for each in (path, *path.parents) if os.path.isdir(each.parent)), path)
    names: list[str] = []
    with suppress(OSError), os.scandir(missing.parent) as entries:
        names = [entry.name for entry in islice(entries, _MOST_NAMES)]
    near = similar_names(missing.name, names, cutoff=0.7)
    if not near:
        return otherwise
    whole = missing.parent / near[0] / path.relative_to(missing)
    return f"did you mean {whole if os.path.exists(whole) else missing.parent / near[0]}?"


def unknown_command(name: str, known: Iterable[str]) -> ConfigError:
    """Return the error for an unknown command, whose hint is the help of the nearest one."""
    names = sorted(known)
    near = similar_names(name, names)
    return ConfigError(unknown_name("command", name, names), f"gancore {near[0]} --help" if near else "gancore --help")


def numbered(what: str, problems: Sequence[str], hint: str) -> ConfigError:
    """Return one error for everything that is wrong with something. The command line prints a line for each problem."""
    if len(problems) == 1:
        return ConfigError(f"{what}: {problems[0]}", hint)
    lines = [f"({number}) {problem}" for number, problem in enumerate(problems, start=1)]
    error = ConfigError(f"{what}: {'; '.join(lines)}", hint)
    error.problems = lines
    return error


def unknown_name(what: str, name: str, known: Iterable[str], *, in_order: bool = False) -> str:
    """Return the message for an unknown name: the nearest known names, then all, sorted unless they are `in_order`."""
    names = list(known) if in_order else sorted(known)
    near = similar_names(name, names)
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"unknown {what} {name!r}{guess} Known: {', '.join(names) or 'none'}"
