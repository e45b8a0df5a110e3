"""Turns the arguments of `Run` (a recipe, file, dict or config, and parts) into layers of the config."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from gancore.catalog.catalog import Catalog
from gancore.component import Component
from gancore.config.from_path import existing
from gancore.config.layers import REMOVE, ConfigLayer, merge
from gancore.config.objects import KINDS, OBJECT
from gancore.config.run import RunConfig, read_layers
from gancore.config.suggest import Suggestion, has_rules, suggest, suggest_without_path
from gancore.contracts import Dataset
from gancore.errors import ConfigError, PluginError
from gancore.run.first_weights import FirstWeights
from gancore.settings import Settings, plain

# Any: data as a file would hold it
Source: TypeAlias = str | Path | Mapping[str, Any] | RunConfig | Sequence[ConfigLayer]
Named: TypeAlias = str | Mapping[str, Any]
DEFAULT = "digits"
"""The recipe of a run without a source, unless all parts are given."""


def duration_of(**totals: float | None) -> str | None:
    """Return the one total that was given, such as `steps=500`, as a config has it: `500 steps`. None without one.

    Raises ConfigError when there are several.
    """
    given = {unit: amount for unit, amount in totals.items() if amount is not None}
    if len(given) > 1:
        raise ConfigError(f"only one of {', '.join(given)} can be the total", "leave the others out")
    for unit, amount in given.items():
        with suppress(InvalidOperation):
            exact = Decimal(str(amount))
            return f"{exact.to_integral_value() if exact == exact.to_integral_value() else exact:f} {unit}"
        return f"{amount} {unit}"  # no number: the config says what it must be
    return None


def is_recipe(name: str, catalog: Catalog) -> bool:
    """Return whether a plugin offers a recipe of this name, `name` or `package:name`."""
    return name.rpartition(":")[2] in {recipe.name for recipe, _ in catalog.recipes()}


def data_path(source: object, catalog: Catalog) -> Path | None:
    """Return the path of the user's data, if the first argument of `Run` is one; None for anything else.

    A recipe of the same name wins, but not over a path with a slash. Raises DataError for a path where nothing is.
    """
    if not isinstance(source, str | Path):
        return None
    text = str(source)
    if isinstance(source, str) and is_recipe(text, catalog):
        return None
    return None if text.endswith(".toml") or os.path.isfile(Path(text) / "config.toml") else _path_of(text)


def dataset_path(value: object, catalog: Catalog) -> Path | None:
    """Return the path of the user's data, if the value of `dataset` is one; None for the name of a dataset.

    Raises as `data_path` does.
    """
    if isinstance(value, str):
        kinds = catalog.offers(Dataset)  # type: ignore[type-abstract]  # offers are concrete
        if value.rpartition(":")[2] in {kind.name for kind, _ in kinds}:
            return None
    return _path_of(str(value)) if isinstance(value, str | Path) else None


class Base(NamedTuple):
    """What a config begins with: the path of the user's data, the layers below it, and parts that are no path.

    Without `layers` the data alone chooses them.
    """

    data: Path | None
    layers: list[ConfigLayer] | None
    parts: Mapping[str, object]


def base_of(source: Source | None, parts: Mapping[str, object], catalog: Catalog) -> Base:
    """Return what a config begins with, for a source and the parts that are given with it.

    Without a source it is recipe `digits`, unless the data or all four parts are given. Raises ConfigError where the
    data is given twice, and as `data_path` and `layers_of`.
    """
    dataset = parts.get("dataset")
    data, named = data_path(source, catalog), dataset_path(dataset, catalog)
    if data and (named or (dataset is not None and table_of_part(dataset, catalog) is None)):
        raise ConfigError(f"the data is given twice: {data} and dataset {named or 'object'}", "leave one of them out")
    if data:
        source = None
    elif named:
        data, parts = named, {part: value for part, value in parts.items() if part != "dataset"}
    if source is None and len(parts) + bool(data) < len(KINDS):
        if data:
            return Base(data, None, parts)
        source = DEFAULT
    return Base(data, [] if source is None else layers_of(source, catalog), parts)


def _path_of(text: str) -> Path | None:
    path = Path(os.path.expanduser(text))
    is_path = text.startswith(("~", ".")) or os.sep in text
    return existing(path) if text and (is_path or os.path.lexists(path)) else None


class Start(NamedTuple):
    """How a run begins: its config file, which exists if the run does, the first weights, and whether it has a GPU."""

    config: Path | None = None
    weights: FirstWeights | None = None
    is_accelerated: Callable[[], bool] = lambda: False


_NEW = Start()


def layers_for(
    data: Path | None,
    above: Sequence[ConfigLayer],
    catalog: Catalog,
    *,
    below: Sequence[ConfigLayer] | None = None,
    start: Start = _NEW,
) -> tuple[list[ConfigLayer], Suggestion | None]:
    """Return the layers below `above` for the user's data, and what was chosen, if anything; see `suggest`.

    Without a path of the data only the rules of a recipe choose. Where the run exists already, its layers are returned
    for what was chosen: another choice would not fit. Raises as `suggest`, and CheckpointError as `FirstWeights.read`.
    """
    if data is None and not any(has_rules(layer, catalog) for layer in below or ()):
        return [*(below or ())], None
    if start.config is None or not start.config.is_file():
        accelerated, earlier = start.is_accelerated(), start.weights.earlier() if start.weights else None
        suggestion = (
            suggest_without_path(below or (), above, catalog, accelerated=accelerated, earlier=earlier)
            if data is None
            else suggest(data, catalog, above, below=below, accelerated=accelerated, earlier=earlier)
        )
        return [*(suggestion.layers if suggestion else below or ())], suggestion
    layers = read_layers(str(start.config), catalog)
    if data is None:
        return layers, None
    table = merge(layers)[0].get("dataset")
    path = table.get("path") if isinstance(table, Mapping) else None
    if isinstance(path, str) and Path(path).expanduser().resolve() == data.resolve():
        return layers, None
    return [*layers, ConfigLayer(str(data), {"dataset": {"path": str(data)}})], None


def layers_of(source: Source, catalog: Catalog) -> list[ConfigLayer]:
    """Return the layers of the first argument of `Run`."""
    if isinstance(source, str | Path):
        return read_layers(str(source), catalog)
    if isinstance(source, list | tuple):
        return [*source]
    data = _data(source, catalog)
    if not isinstance(data, dict):
        raise ConfigError(
            f"a run is made from a recipe, a TOML file, a dict or a RunConfig; received {type(source).__name__}",
            'for example: gancore.Run("digits")',
        )
    recipe = data.pop("recipe", REMOVE)
    below = [] if recipe == REMOVE else read_layers(str(recipe), catalog)
    return [*below, ConfigLayer("config", data)]


def table_of_part(value: object, catalog: Catalog) -> Any | None:  # Any: data as a file would hold it
    """Return what the config holds for a part that a file can rebuild; None for an object."""
    if isinstance(value, str | Mapping):
        return _data(value, catalog)
    if isinstance(value, Component):
        with suppress(PluginError):  # no plugin offers its class, such as one in a notebook
            return plain(value, catalog.name_of)
    return None


def assignment(key: str, value: object, catalog: Catalog) -> ConfigLayer:
    """Return the layer of one key of `set`, such as `optimizer.generator.lr`."""
    data = _data(value, catalog)
    for name in reversed(key.split(".")):
        data = {name: data}
    return ConfigLayer(f"set {key}", data)


def _data(value: object, catalog: Catalog) -> Any:  # Any: data as a file would hold it
    """Return settings and components as data of a file, and None as the value that removes a key."""
    if isinstance(value, Mapping):
        return {key: _data(item, catalog) for key, item in value.items()}
    if isinstance(value, Settings):  # a part may be a stand-in for an object
        return plain(value, lambda kind: OBJECT if getattr(kind, "name", None) == OBJECT else catalog.name_of(kind))
    return REMOVE if value is None else value
