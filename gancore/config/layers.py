"""Layers of configuration: defaults, recipe, file and command line, merged into one, and who said what.

Nothing here knows which keys exist: layers are plain data, and the run's model judges their sum.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from gancore.errors import ConfigError
from gancore.settings import REMOVE as REMOVE

Keys = tuple[str, ...]
Table = dict[str, Any]  # Any: data of a file, judged later by the model


@dataclass(frozen=True)
class ConfigLayer:
    """Some keys and values, and the name of whoever said them, as a user would recognize it."""

    source: str
    data: Mapping[str, object]


def merge(layers: Iterable[ConfigLayer]) -> tuple[Table, dict[Keys, str]]:
    """The sum of all layers, later ones first in rank, and the source of every path in it."""
    total: Table = {}
    sources: dict[Keys, str] = {}
    for layer in layers:
        _lay(total, layer.data, layer.source, (), sources)
    return total, sources


def _lay(below: Table, above: Mapping[str, object], source: str, path: Keys, sources: dict[Keys, str]) -> None:
    for key, value in above.items():
        place = (*path, key)
        old = below.get(key)
        if value == REMOVE:
            below.pop(key, None)
            _forget(place, sources)
            sources[place] = source
            continue
        if isinstance(old, dict) and isinstance(value, str) and ("name" in old or len(place) <= 2):
            value = {"name": value}  # generator = "mlp" is short for generator.name = "mlp"
        if isinstance(value, Mapping):
            if isinstance(old, str):
                old = {"name": old}
                sources[*place, "name"] = sources[place]
            if not isinstance(old, dict) or _renamed(old, value, place):
                old = {}
                _forget(place, sources)
            below[key] = old
            sources[place] = source
            _lay(old, value, source, place, sources)
        else:
            below[key] = value
            _forget(place, sources)
            sources[place] = source


def _forget(place: Keys, sources: dict[Keys, str]) -> None:
    """What stood below this place is gone, and so is who said it."""
    for path in [path for path in sources if path[: len(place)] == place]:
        del sources[path]


def _renamed(old: Mapping[str, object], new: Mapping[str, object], place: Keys) -> bool:
    """Another component takes the table over: the fields of the one before it mean nothing to it.

    A labeled table (`regularizers.r1`) is named by its label unless it says otherwise.
    """
    before, after = old.get("name", place[-1] if len(place) == 2 else None), new.get("name")
    if before is None or after is None or before == after:
        return False
    # `mlp` may be short for `package:mlp`.
    packages = [str(name).rpartition(":") for name in (before, after)]
    return packages[0][2] != packages[1][2] or all(package for package, _, _ in packages)


def source_of(path: Keys, sources: Mapping[Keys, str]) -> str | None:
    """Who said the value at this path, or the nearest table around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in sources:
            return sources[path[:length]]
    return None


def inline_table(key: str, text: str) -> object:
    """The value that `key = text` has in TOML, or the text where it is none."""
    return assignment(f"{key}={text}").data[key]


def assignment(text: str) -> ConfigLayer:
    """One `PATH=VALUE` of the command line: the right side is read as TOML, or else as a bare string.

    Raises ConfigError when there is no path or no value.
    """
    left, equals, right = text.partition("=")
    path = tuple(part.strip() for part in left.split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"--set takes PATH=VALUE; received {text!r}", "write it like: --set optimizer.generator.lr=1e-3"
        )
    try:
        value: object = tomllib.loads(f"value = {right}")["value"]
    except (ValueError, RecursionError):
        value = right.strip()
    if "\n" in right or isinstance(value, date | time):  # no key holds a time; a name may look like one
        value = right.strip()
    for part in reversed(path):
        value = {part: value}
    return ConfigLayer(f"--set {text}", value)  # type: ignore[arg-type]  # the path has a part, so the value is a table
