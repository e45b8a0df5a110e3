"""Paths: default folders for the cache and for datasets, and how a command names a path."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from gancore.errors import ConfigError, StorageError


def cache_root() -> Path:
    """Return the folder for files that can be made again: GANCORE_CACHE, or the cache folder of the user.

    Raises ConfigError if the user has no home.
    """
    named = os.environ.get("GANCORE_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    try:
        return user_cache_path("gancore")
    except RuntimeError as error:
        message = "there is no cache folder: HOME is not set, and the system knows no home of this user"
        raise ConfigError(message, "name a folder: export GANCORE_CACHE=/tmp/gancore") from error


def data_root(given: Path | str | None = None) -> Path:
    """Return the folder with the files of datasets: `given`, or GANCORE_DATA, or `data` in the cache.

    Raises ConfigError if that must be found from a home, which the user lacks.
    """
    named = given or os.environ.get("GANCORE_DATA")
    return Path(named) if named else cache_root() / "data"


def check_folder_of(path: Path, option: str = "--out") -> None:
    """Raise StorageError unless a file or folder can be made at the path of an option; folders above may be missing."""
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    problem = "is not a folder" if not parent.is_dir() else "" if os.access(parent, os.W_OK) else "is not writable"
    if problem:
        raise StorageError(f"cannot write to {path}: {parent} {problem}", f"choose another {option}")


def name_a_run() -> str:
    """Return the hint to name the folder of a run, with up to three runs in the folder `runs`, the newest first."""
    found: list[Path] = []
    with suppress(OSError):
        found = sorted(Path("runs").glob("*/config.toml"), key=os.path.getmtime, reverse=True)
    if not found:
        return "name the folder of a run, like runs/0001"
    listed = ", ".join(str(file.parent) for file in found[:3])
    which = f"the newest of {len(found)} runs" if len(found) > 3 else "runs"
    return f"name the folder of a run; {which} here: {listed}"


def shell_quote(path: Path | str) -> str:
    """Return a path as a shell takes it for an argument on one line, and a command for no option."""
    text = str(path)
    if text.startswith("-"):
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.replace("\\", r"\\").replace("'", r"\'")
    octal = (c if c.isprintable() else "".join(f"\\{byte:03o}" for byte in os.fsencode(c)) for c in escaped)
    return f"$'{''.join(octal)}'"
