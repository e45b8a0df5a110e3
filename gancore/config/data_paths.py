"""Where the user's files are: the fields `path` of datasets in a config."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

from gancore.contracts import Dataset
from gancore.errors import DataError
from gancore.settings import Settings

S = TypeVar("S", bound=Settings)


def absolute(path: Path | str) -> str:
    """Return a path as it is from any working directory, with `~` expanded. Links are not followed.

    Raises DataError for a path that is not UTF-8, which a config cannot hold.
    """
    full = str(Path(os.path.expanduser(path)).absolute())
    try:
        full.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the path {full!a} is not UTF-8, so a config cannot hold it", "rename it") from error
    shorter = os.path.normpath(full)
    return shorter if os.path.realpath(shorter) == os.path.realpath(full) else full  # `..` after a link is elsewhere


def with_absolute_paths(settings: S) -> S:
    """Return the settings with the paths of all their datasets absolute; relative ones are to the working directory."""
    return with_paths(settings, absolute)


def with_paths(settings: S, change: Callable[[str], str]) -> S:
    """Return the settings with the paths of all their datasets changed, those of nested datasets too."""
    return cast("S", _changed(settings, change))


def _changed(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, tuple):
        return tuple(_changed(item, change) for item in value)
    if isinstance(value, Mapping):
        return {key: _changed(item, change) for key, item in value.items()}
    if not isinstance(value, Settings):
        return value
    update = {}
    for key in type(value).model_fields:
        old = getattr(value, key)
        is_path = key == "path" and isinstance(value, Dataset) and isinstance(old, str)
        new = change(old) if is_path else _changed(old, change)
        if new != old:
            update[key] = new
    return value.model_copy(update=update) if update else value


def paths_of(dataset: Dataset) -> list[str]:
    """Return the paths of a dataset and of the datasets in it."""
    found: list[str] = []

    def collect(path: str) -> str:
        found.append(path)
        return path

    with_paths(dataset, collect)
    return found


@contextmanager
def missing_data_named(dataset: Dataset, hint: str) -> Iterator[None]:
    """Add to a DataError of this block that there is nothing at the path of the dataset, if so, and what helps."""
    try:
        yield
    except DataError as error:
        missing = [path for path in paths_of(dataset) if not os.path.exists(os.path.expanduser(path))]
        if not missing:
            raise
        raise DataError(f"the data of the run is not at {missing[0]} any more", hint) from error


@contextmanager
def data_dir_named(dataset: Dataset, command: str) -> Iterator[None]:
    """Let a DataError of this block, which prepares the data of a run again, say how to give its folder of datasets."""
    try:
        yield
    except DataError as error:
        if not command or paths_of(dataset):
            raise
        hint = f"{command} --data-dir FOLDER; a run does not keep --data-dir"
        raise DataError(error.message, hint) from error
