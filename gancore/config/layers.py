"""Config layers: defaults, recipe, file and command line are merged, and the source of each value is recorded.

Layers are plain data. Only the merged result is validated, by the run's model.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from gancore.errors import ConfigError
from gancore.settings import REMOVE as REMOVE

Keys = tuple[str, ...]
Table = dict[str, Any]  # Any: data of a file, validated later by the model


@dataclass(frozen=True)
class ConfigLayer:
    """Keys and values from one source. `source` is shown to the user, as in `recipe digits` or `--set seed=3`."""

    source: str
    data: Mapping[str, object]


def merge(layers: Iterable[ConfigLayer]) -> tuple[Table, dict[Keys, str]]:
    """Merge the layers, later ones over earlier ones; return the result and the source of every path in it."""
    merged: Table = {}
    sources: dict[Keys, str] = {}
    for layer in layers:
        _overlay(merged, layer.data, layer.source, (), sources)
    return merged, sources


def _overlay(below: Table, above: Mapping[str, object], source: str, parent: Keys, sources: dict[Keys, str]) -> None:
    for key, value in above.items():
        path = (*parent, key)
        old = below.get(key)
        if isinstance(old, dict) and isinstance(value, str) and value != REMOVE and ("name" in old or len(path) <= 2):
            value = {"name": value}  # generator = "mlp" is short for generator.name = "mlp"
        if isinstance(value, Mapping):
            if isinstance(old, str):
                old = {"name": old}
                sources[*path, "name"] = sources[path]
            if not isinstance(old, dict) or _is_renamed(old, value, path):
                old = {}
                _forget(path, sources)
            below[key] = old
            _overlay(old, value, source, path, sources)
        else:
            _forget(path, sources)
            below[key] = value
            if value == REMOVE:
                del below[key]
        sources[path] = source


def _forget(path: Keys, sources: dict[Keys, str]) -> None:
    """Remove the sources of a path and of all paths below it."""
    for known in [known for known in sources if known[: len(path)] == path]:
        del sources[known]


def _is_renamed(old: Mapping[str, object], new: Mapping[str, object], path: Keys) -> bool:
    """Return whether the new table names another component, so that the old fields do not apply.

    The name of a labeled table (`regularizers.r1`) is its label unless it has a `name`.
    """
    before, after = old.get("name", path[-1] if len(path) == 2 else None), new.get("name")
    if not isinstance(before, str) or not isinstance(after, str) or before == after:
        return False
    # `mlp` may mean `package:mlp`.
    (package, _, name), (new_package, _, new_name) = (value.rpartition(":") for value in (before, after))
    return name != new_name or bool(package and new_package)


def source_of(path: Keys, sources: Mapping[Keys, str]) -> str | None:
    """Return the source of the value at this path, or of the nearest table around it."""
    return next((sources[path[:n]] for n in range(len(path), 0, -1) if path[:n] in sources), None)


def flattened(table: Mapping[str, object]) -> dict[str, object]:
    """Return all values of nested tables by dotted keys, as `assignment` takes them, in order.

    An empty table is a value. A name with a dot or a quote is quoted.
    """
    return dict(_flattened(table, ""))


def _flattened(table: Mapping[str, object], above: str) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = above + (json.dumps(name) if {".", '"'} & set(name) else name)
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{key}.")
        else:
            yield key, value


def parse_value(text: str) -> object:
    """Parse the value of a key as TOML. Text that is not TOML is returned as a string, without surrounding spaces."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text.strip()
    # A second line would be another key. No key takes a date, but a name may look like one.
    return text.strip() if "\n" in text or isinstance(value, date | time) else value


def assignment(text: str) -> ConfigLayer:
    """Return the layer of one `--set PATH=VALUE`, with VALUE as in `parse_value`.

    Raises ConfigError if the path or the `=` is missing.
    """
    left, equals, right = text.partition("=")
    path = tuple(part.strip() for part in left.split("."))
    if not equals or not all(path):
        hint = "write it like: --set optimizer.generator.lr=1e-3"
        raise ConfigError(f"--set takes PATH=VALUE; received {text!r}", hint)
    return ConfigLayer(f"--set {text}", nested({".".join(path): parse_value(right)}))


def nested(values: Mapping[str, object]) -> Table:
    """Return values by dotted keys as nested tables."""
    tables: Table = {}
    for key, value in values.items():
        *above, last = key.split(".")
        table = tables
        for name in above:
            table = table.setdefault(name, {})
        table[last] = value
    return tables


def read_toml(path: Path, hint: str) -> Table:
    """Return the content of a TOML file. Raises ConfigError, with the hint if the file cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "fix the file") from error
