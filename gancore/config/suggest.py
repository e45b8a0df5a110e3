"""A config for files of the user: a recipe that fits the data, and what must be changed in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import gcd
from pathlib import Path
from shlex import quote
from textwrap import wrap

from pydantic import ValidationError

from gancore.catalog.catalog import Catalog
from gancore.config.find import read_component
from gancore.config.from_path import dataset_at, outline_of, reads_paths
from gancore.config.layers import REMOVE, ConfigLayer, Table, merge, nested, parse_value
from gancore.config.objects import OBJECT
from gancore.config.picture_rules import (
    CPU_SIDE,
    FEWEST_OF_CLASS,
    Decision,
    Facts,
    decisions,
    fitting_batch,
    has_classes,
    is_set,
    merge_tables,
    rules_for,
    wanted_shape,
)
from gancore.config.run import Options
from gancore.config.toml import literal
from gancore.contracts import Dataset, Outline, Shape
from gancore.errors import ConfigError, DataError, PluginError
from gancore.settings import plain

_GRAY_ITEMS = 10_000
"""The fewest gray images for the recipes that were made for MNIST, which has no augmentation."""
_WIDTH, _INDENT = 100, " " * 11  # of the reasons of rules
_ITEMS_TO_MEASURE = 130
"""The fewest items for a metric of a recipe: with half of them, 65, the 64 features of `random` can be compared."""
_PATCH = 4
"""The side of a patch in the recipes `mnist` and `conditional`."""
_NETWORKS = ("generator", "discriminator", "latent")
"""Tables of the config that decide the shapes of weights, besides `size`."""
_NAMED_CLASSES = 3
_KIND = {1: "vectors of {} numbers", 2: "series of {}", 3: "images of {}", 4: "volumes of {}"}


@dataclass(frozen=True)
class Earlier:
    """The run whose weights training begins with: where it is, its config, and the shape of its samples.

    `config` is empty and `shape` None for weights of which nothing more is known.
    """

    path: Path
    config: Mapping[str, object] = field(default_factory=dict)
    shape: Shape | None = None


@dataclass(frozen=True)
class Suggestion:
    """A config for the user's data. `layers` go below what the user sets; `source` is their recipe or file, if any.

    `data` and `choice` say in a line each what the data is, and what was chosen and why; `choice` is empty if the user
    has set all of it. `changes` are the keys of the config that the choice sets, dotted; `decided` are those of them
    that follow from rules, with their reasons.
    """

    layers: tuple[ConfigLayer, ...]
    source: str | None
    data: str
    choice: str
    changes: Mapping[str, object] = field(default_factory=dict)
    decided: tuple[Decision, ...] = ()

    def lines(self, command: str = "") -> list[str]:
        """Return what the data is, what was chosen, and the command that repeats it, by default in Python.

        Empty if the user has set all that.
        """
        if not self.choice:
            return []
        source = "" if self.source is None else f"{self.source!r}, "
        repeat = command or f"gancore.Run({source}set={nested(self.changes)!r})"
        return [
            f"data:    {self.data}",
            f"chosen:  {self.choice}",
            *([f"repeat:  {repeat}"] if self.changes else []),
        ]

    def table(self) -> list[str]:
        """Return lines for the keys that follow from rules: those of one value and reason, and the reason below."""
        lines = list[str]()
        for (value, reason), same in groupby(self.decided, lambda each: (each.value, each.reason)):
            lines.append(f"rule:    {', '.join(each.key for each in same)} = {as_toml(value)}")
            lines += wrap(reason, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        return lines

    def arguments(self) -> list[str]:
        """Return the arguments of `gancore train` that make the same choice by hand."""
        found: list[str] = [] if self.source is None else [self.source]
        for key, value in self.changes.items():
            found += ["--dataset", str(value)] if key == "dataset.name" else ["--set", f"{key}={as_toml(value)}"]
        return found


def as_toml(value: object) -> str:
    """Return a value as `--set` reads it: text as it is, where that is not mistaken for another value."""
    if isinstance(value, str) and parse_value(value) == value:
        return value
    return literal(value)


def suggest(
    path: Path | str,
    catalog: Catalog,
    above: Sequence[ConfigLayer] = (),
    *,
    below: Sequence[ConfigLayer] | None = None,
    accelerated: bool = False,
    earlier: Earlier | None = None,
) -> Suggestion:
    """Return a config for the files at a path, which fits `above`, the layers that the user sets.

    `below` are the layers of a recipe or file that the user has chosen; None: a recipe is chosen. `accelerated` says
    whether there is a GPU, and `earlier` with which weights training begins. Raises DataError as `dataset_at` does, and
    when the data is empty or cannot be read; ConfigError when no recipe can be chosen.
    """
    rules, own = _rules_and_own(below or (), above, catalog)
    given = own if rules else merge([*(below or ()), *above])[0]
    dataset, outline = _dataset(path, catalog, _table(given.get("dataset")), _table(own.get("dataset")))
    reasons: list[str] = []
    if below is None and outline is None:
        raise ConfigError(
            f"dataset {dataset.name} does not say what {path} holds, so no recipe can be chosen for it",
            f"name one: gancore train RECIPE --dataset {quote(str(path))}",
        )
    if outline is not None and (below is None or "dataset.size" in rules):
        dataset, outline, reasons = _resized(
            dataset, outline, path, catalog, own, _shape_for(outline, earlier, accelerated=accelerated)
        )
        if reasons and earlier and outline.shape == earlier.shape:
            reasons = [f"pictures of {'x'.join(map(str, outline.shape))} as in {earlier.path}"]
    if below is not None:
        source = next((name for layer in reversed(below) if (name := _recipe_of(layer) or _file_of(layer))), None)
        reasons.insert(0, f"dataset {dataset.name}" + (f" for {source}" if source else ""))
        if rules and outline is not None:
            named = source if source and source.endswith(".toml") else f"recipe {source}"
            reasons[0] = f"{named}, for {_shape_text(outline.shape)} {_device(accelerated=accelerated)}"
        layers = [*below]
    elif outline is not None:
        source = recipe = "pictures" if _is_of_pictures(earlier, outline) else _recipe_for(outline, catalog)
        reasons.insert(0, f"recipe {recipe}, for {_shape_text(outline.shape)} {_device(accelerated=accelerated)}")
        layers = [ConfigLayer(f"recipe {recipe}", catalog.recipe(recipe).data)]
        rules, _ = _rules_and_own(layers, (), catalog)
    base = merge(layers)[0]
    fields = _fields(dataset, catalog, base, keep=below is not None and not rules)
    set_by_user = _table(own.get("dataset")).keys() - {"name"}
    changes: dict[str, object] = {f"dataset.{key}": value for key, value in fields if key not in set_by_user}
    decided: tuple[Decision, ...] = ()
    if outline is not None and (rules or below is None):
        facts = _facts(dataset, outline, earlier, accelerated=accelerated)
        decided = _decided(rules, facts, base, own, earlier)
        changes |= _needed(rules or ("training.conditional",), decided, facts, base, own)
        if earlier and any(str(earlier.path) in each.reason for each in decided):
            reasons.append(f"networks of {earlier.path}, so that its weights fit")
    if "training.conditional" in changes and outline is not None:
        few = f"since classes have fewer than {FEWEST_OF_CLASS} items on average"
        conditional = f"conditional on {len(outline.classes)} classes"
        reasons.append(conditional if changes["training.conditional"] else f"not conditional, {few}")
    batch = base.get("batch_size", Options().batch_size)
    if outline is not None and "batch_size" not in own and isinstance(batch, int):
        fits = fitting_batch(outline.items, batch)
        if fits != batch and changes.setdefault("batch_size", fits) == fits:
            reasons.append(f"batch_size {fits} instead of {batch}, since there are {outline.items:,} items")
    if too_few := _unmeasurable(dataset, merge(layer for layer in layers if _recipe_of(layer))[0], own):
        changes |= {f"metrics.{label}": REMOVE for label in too_few}
        reasons.append(f"without {', '.join(too_few)}, since fewer than {_ITEMS_TO_MEASURE} items say little")
    if rules and decided:
        reasons.append(f"{len(decided)} values by rules, which --dry-run prints")
    return Suggestion(
        (*layers, ConfigLayer(f"choice for {path}", nested(changes))),
        source,
        f"{path} (dataset {dataset.name})" + (f": {_data_text(outline)}" if outline else ""),
        "; ".join(reasons),
        changes,
        decided,
    )


def suggest_without_path(
    below: Sequence[ConfigLayer],
    above: Sequence[ConfigLayer],
    catalog: Catalog,
    *,
    accelerated: bool = False,
    earlier: Earlier | None = None,
) -> Suggestion | None:
    """Return what the rules of a recipe choose where the data is not named by its path alone, as `suggest` does.

    The data is that of the table `dataset`. None without rules, and where the data is not known or wrong, which is
    reported when the config is resolved.
    """
    rules, own = _rules_and_own(below, above, catalog)
    table = _table(merge([*below, *above])[0].get("dataset"))
    if not rules or not table:
        return None
    path, name = table.get("path"), _table(own.get("dataset")).get("name")
    if isinstance(path, str) and (name is None or _is_for_paths(name, catalog)):
        made = suggest(path, catalog, above, below=below, accelerated=accelerated, earlier=earlier)
        return replace(made, choice="") if all(is_set(key, own) for key in made.changes) else made
    if name is None:
        return None
    try:
        dataset: Dataset = read_component(Dataset, table, catalog)  # type: ignore[type-abstract]  # offers are concrete
    except ConfigError:
        return None
    outline = outline_of(dataset)
    recipe = next((name for layer in below if (name := _recipe_of(layer))), "")
    decided, changes = tuple[Decision, ...](), dict[str, object]()
    choice = f"recipe {recipe} as it is, since dataset {dataset.name} does not say what it holds before it is read"
    if outline is not None:
        facts = _facts(dataset, outline, earlier, accelerated=accelerated)
        base = merge(below)[0]
        decided = _decided(rules, facts, base, own, earlier)
        choice = f"recipe {recipe}, for {_shape_text(outline.shape)} {_device(accelerated=accelerated)}"
        changes = _needed(rules, decided, facts, base, own)
        if not decided:
            return None
    layers = (*below, ConfigLayer(f"choice for dataset {dataset.name}", nested(changes)))
    data = f"dataset {dataset.name}" + (f": {_data_text(outline)}" if outline else "")
    return Suggestion(layers, recipe, data, choice, changes, decided)


def _rules_and_own(
    below: Sequence[ConfigLayer], above: Sequence[ConfigLayer], catalog: Catalog
) -> tuple[tuple[str, ...], Table]:
    """Return the keys that follow from rules by the recipe in `below`, and what the user sets.

    With rules, a file on top of the recipe is of the user too. Raises ConfigError for a rule that does not exist.
    """
    for position, layer in reversed([*enumerate(below)]):
        if has_rules(layer, catalog):
            rules = catalog.recipe(_recipe_of(layer) or "").rules
            rules_for(rules)
            return rules, merge([*below[position + 1 :], *above])[0]
    return (), merge(above)[0]


def has_rules(layer: ConfigLayer, catalog: Catalog) -> bool:
    """Return whether a layer is a recipe, some of whose values follow from the data by rules."""
    name = _recipe_of(layer)
    return name is not None and bool(catalog.recipe(name).rules)


def _is_for_paths(name: object, catalog: Catalog) -> bool:
    """Return whether a dataset is known, and reads paths of the user."""
    try:
        return isinstance(name, str) and reads_paths(catalog.find(Dataset, name))  # type: ignore[type-abstract]  # as above
    except (ConfigError, PluginError):
        return False


def _facts(dataset: Dataset, outline: Outline, earlier: Earlier | None, *, accelerated: bool) -> Facts:
    return Facts(
        outline.shape,
        outline.items,
        len(outline.classes),
        mirrors=bool(getattr(dataset, "mirrors", False)),
        accelerated=accelerated,
        pretrained=earlier is not None,
    )


def _decided(
    rules: Sequence[str], facts: Facts, base: Table, own: Table, earlier: Earlier | None
) -> tuple[Decision, ...]:
    """Return what the rules of a recipe decide, and the networks of the run whose weights training begins with.

    A recipe without rules is conditional if the data has classes. Raises ConfigError for data that is no picture.
    """
    if not rules:
        return tuple(each for each in decisions(["training.conditional"], facts, base, own) if each.value)
    if len(facts.shape) != 3:
        raise ConfigError(
            f"this recipe is for pictures; the data has {facts.items:,} {_shape_text(facts.shape)}",
            "gancore train PATH chooses a recipe that fits",
        )
    networks = [*_networks_of(earlier, own)]
    kept = [each for each in networks if not is_set(each.key, own)]
    above = merge_tables(nested({each.key: each.value for each in networks}), own)
    return (*kept, *decisions(rules, facts, base, above))


def _networks_of(earlier: Earlier | None, own: Table) -> Iterator[Decision]:
    """Yield the keys of the networks of an earlier run, unless the user names other networks."""
    if earlier is None:
        return
    reason = f"as in {earlier.path}, whose weights training begins with"
    if "size" in earlier.config:
        yield Decision("size", earlier.config["size"], reason)
    for table in _NETWORKS:
        values = _table(earlier.config.get(table))
        other = _table(own.get(table)).get("name", values.get("name"))
        if values and other == values.get("name") and other != OBJECT:
            for key, value in sorted(values.items(), key=lambda item: item[0] != "name"):
                yield Decision(f"{table}.{key}", value, reason)


def _needed(
    rules: Sequence[str], decided: Sequence[Decision], facts: Facts, base: Table, own: Table
) -> dict[str, object]:
    """Return the keys to set: not those with the recipe's value that the rules give on any device anyway."""
    every = _changes(decided, own)
    other = {
        each.key: each.value for each in decisions(rules, replace(facts, accelerated=not facts.accelerated), base, own)
    }
    few = {key: value for key, value in every.items() if not value == _at(base, key) == other.get(key)}
    above = merge_tables(nested(few), own)
    for accelerated in (False, True):
        again = decisions(rules, replace(facts, accelerated=accelerated), base, above)
        if any(every.get(each.key) != each.value for each in again):
            return every
    return few


def _at(table: Table, key: str) -> object:
    value: object = table
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _changes(decided: Sequence[Decision], own: Table) -> dict[str, object]:
    """Return all keys that are decided, and names that the user gives networks: a new name resets the other fields."""
    changes: dict[str, object] = {}
    for each in decided:
        table, *rest = each.key.split(".")
        name = _table(own.get(table)).get("name")
        if table in _NETWORKS and rest and name is not None:
            changes.setdefault(f"{table}.name", name)
        changes[each.key] = each.value
    return changes


def _is_of_pictures(earlier: Earlier | None, outline: Outline) -> bool:
    """Return whether training begins with weights of networks for pictures, which the rules of `pictures` keep."""
    return earlier is not None and bool(earlier.config) and len(outline.shape) == 3


def _device(*, accelerated: bool) -> str:
    return "with a GPU" if accelerated else "without a GPU"


def _unmeasurable(dataset: Dataset, recipe: Table, own: Table) -> list[str]:
    """Return the labels of a recipe's metrics if the data has too few items for them, unless the user asks for one."""
    labels = _table(recipe.get("metrics")).keys() - _table(own.get("metrics")).keys()
    if not labels or "best" in _table(own.get("checkpoint")):
        return []
    compared = outline_of(dataset.part("test") or dataset)
    return sorted(labels) if compared is not None and compared.items < _ITEMS_TO_MEASURE else []


def _dataset(path: Path | str, catalog: Catalog, given: Table, own: Table) -> tuple[Dataset, Outline | None]:
    """Return the dataset for a path, with the fields that are set and valid, and the outline of its data.

    `own` is the table that the user sets. `given` has the fields of a recipe or file below it, which another dataset
    does not take.
    """
    name = own.get("name")
    dataset = dataset_at(path, catalog, name=name if isinstance(name, str) else None)
    table = given if given.get("name") == catalog.name_of(type(dataset)) else own
    dataset = _with_fields(dataset, catalog, {key: value for key, value in table.items() if key != "path"})
    return dataset, outline_of(dataset)


def _with_fields(dataset: Dataset, catalog: Catalog, table: Table) -> Dataset:
    data = {**plain(dataset, catalog.name_of), **{key: value for key, value in table.items() if key != "name"}}
    try:
        return type(dataset).model_validate(data, context=catalog)
    except ValidationError:  # reported when the whole config is resolved
        return dataset


def _shape_for(outline: Outline, earlier: Earlier | None, *, accelerated: bool) -> Shape:
    """Return the shape that pictures should have: that of an earlier run, so that its weights fit."""
    if len(outline.shape) != 3:
        return outline.shape
    if earlier and earlier.shape and len(earlier.shape) == 3:
        return earlier.shape
    return wanted_shape(outline.shape, accelerated=accelerated)


def _resized(
    dataset: Dataset, outline: Outline, path: Path | str, catalog: Catalog, own: Table, shape: Shape
) -> tuple[Dataset, Outline, list[str]]:
    """Return the dataset with pictures of this shape, their outline, and the reason; as they are if they cannot be.

    Pictures that have the shape have it by a field then, so that a command repeats it on a machine with another rule.
    """
    if len(shape) != 3:
        return dataset, outline, []
    with suppress(DataError):  # arrays cannot be resized
        other = dataset_at(path, catalog, shape, name=dataset.name)
        other = _with_fields(other, catalog, _table(own.get("dataset")))
        found = outline_of(other)
        if found and found.shape == shape:
            if shape == outline.shape:
                return other, found, []
            smaller = min(shape[1:]) < min(outline.shape[1:])
            sides = "x".join(map(str, shape[1:]))
            how = "reduced to {} for speed" if smaller else "resized to {}, which networks can halve"
            return other, found, [f"pictures {how.format(sides)} (dataset.size)"]
    return dataset, outline, []


def _recipe_for(outline: Outline, catalog: Catalog) -> str:
    shape = outline.shape
    known = {recipe.name for recipe, _ in catalog.recipes()}
    if len(shape) == 1 and "table" in known:
        return "table"
    if len(shape) != 3:
        return "arrays"
    channels, height, width = shape
    is_small = min(height, width) <= CPU_SIDE and gcd(height, width) % _PATCH == 0
    if channels == 1 and is_small and outline.items >= _GRAY_ITEMS:
        return "conditional" if has_classes(outline.items, len(outline.classes)) else "mnist"
    return "pictures"


def _fields(dataset: Dataset, catalog: Catalog, base: Table, *, keep: bool) -> Iterator[tuple[str, object]]:
    """Yield the name of a dataset and its fields that a config must set over `base`.

    With `keep`, fields that `base` sets for the same dataset stay, except for the path.
    """
    data = plain(dataset, catalog.name_of)
    below = _table(base.get("dataset"))
    if below.get("name") != data["name"]:
        below = {}
    yield "name", data.pop("name")
    defaults = {field.alias or name: field for name, field in type(dataset).model_fields.items()}
    for key, value in data.items():
        default = defaults[key].get_default(call_default_factory=True)
        if key == "path" or (key in below and not keep) or (key not in below and value != plain(default, str)):
            yield key, value


def _recipe_of(layer: ConfigLayer) -> str | None:
    return layer.source.removeprefix("recipe ") if layer.source.startswith("recipe ") else None


def _file_of(layer: ConfigLayer) -> str | None:
    return layer.source if layer.source.endswith(".toml") else None


def _table(value: object) -> Table:
    """Return the table of a config's key, which may be the name of a component alone."""
    return {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}


def _data_text(outline: Outline) -> str:
    text = f"{outline.items:,} {_shape_text(outline.shape)}"
    if outline.classes:
        names = ", ".join(outline.classes[:_NAMED_CLASSES]) + (", …" if len(outline.classes) > _NAMED_CLASSES else "")
        text += f", {len(outline.classes)} classes ({names})"
    return text


def _shape_text(shape: Shape) -> str:
    return _KIND.get(len(shape), "items of {}").format("x".join(map(str, shape)))
