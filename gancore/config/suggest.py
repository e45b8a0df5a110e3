"""A config for files of the user: a recipe that fits the data, and what must be changed in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from shlex import quote
from typing import Any

from pydantic import ValidationError

from gancore.catalog.catalog import Catalog
from gancore.config.from_path import dataset_at, outline_of
from gancore.config.layers import REMOVE, ConfigLayer, Table, merge, parse_value
from gancore.config.run import Options
from gancore.config.toml import literal
from gancore.contracts import Dataset, Outline, Shape
from gancore.errors import ConfigError, DataError
from gancore.settings import plain

_CPU_SIDE, _GPU_SIDE = 32, 64
"""The shorter side in pixels to which pictures are reduced, without and with a GPU."""
_SIDE_STEP = 8
"""Sides of reduced pictures are multiples of this, so that networks can halve them."""
_LARGEST_SMALL_SIDE = 48
"""The shorter side of images up to which convolutions on patches are chosen with a GPU too."""
_PATCH, _FEWEST_PATCHES = 4, 4
"""The side of a patch in the recipes with networks `subpixel`, and the fewest patches along the shorter side."""
_GRAY_ITEMS = 10_000
"""The fewest gray images for the recipes that were made for MNIST, which has no augmentation."""
_ITEMS_OF_CLASS = 10
"""The fewest items of a class, on average, for a conditional run."""
_ITEMS_TO_MEASURE = 130
"""The fewest items for a metric of a recipe: with half of them, 65, the 64 features of `random` can be compared."""
_COLOR = (1, 3, 4)
"""Numbers of channels that are colors, so that colors can be augmented."""
_NAMED_CLASSES = 3
_KIND = {1: "vectors of {} numbers", 2: "series of {}", 3: "images of {}", 4: "volumes of {}"}


@dataclass(frozen=True)
class Suggestion:
    """A config for the user's data. `layers` go below what the user sets; `source` is their recipe or file, if any.

    `data` and `choice` say in a line each what the data is, and what was chosen and why. `changes` are the keys of the
    config that the choice sets, dotted.
    """

    layers: tuple[ConfigLayer, ...]
    source: str | None
    data: str
    choice: str
    changes: Mapping[str, object] = field(default_factory=dict)

    def lines(self, command: str = "") -> tuple[str, str, str]:
        """Return what the data is, what was chosen, and the command that repeats it, by default in Python."""
        source = "" if self.source is None else f"{self.source!r}, "
        return (
            f"data:    {self.data}",
            f"chosen:  {self.choice}",
            f"repeat:  {command or f'gancore.Run({source}set={_nested(self.changes)!r})'}",
        )

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
) -> Suggestion:
    """Return a config for the files at a path, which fits `above`, the layers that the user sets.

    `below` are the layers of a recipe or file that the user has chosen; None: a recipe is chosen. `accelerated` says
    whether there is a GPU. Raises DataError as `dataset_at` does, and when the data is empty or cannot be read;
    ConfigError when no recipe can be chosen.
    """
    own = merge(above)[0]
    given = _table(merge([*(below or ()), *above])[0].get("dataset"))
    dataset, outline = _dataset(path, catalog, given, _table(own.get("dataset")))
    changes: dict[str, object] = {}
    if below is not None:
        source = next((name for layer in reversed(below) if (name := _recipe_of(layer) or _file_of(layer))), None)
        reasons = [f"dataset {dataset.name}" + (f" for {source}" if source else "")]
    elif outline is None:
        raise ConfigError(
            f"dataset {dataset.name} does not say what {path} holds, so no recipe can be chosen for it",
            f"name one: gancore train RECIPE --dataset {quote(str(path))}",
        )
    else:
        dataset, outline, reasons = _reduced(dataset, outline, path, catalog, own, accelerated=accelerated)
        source = recipe = _recipe_for(outline, catalog, accelerated=accelerated)
        device = "with a GPU" if accelerated else "without a GPU"
        reasons.insert(0, f"recipe {recipe}, for {_shape_text(outline.shape)} {device}")
        changes = dict(_fitted(recipe, outline, own))
        if len(outline.classes) > 1:
            count, few = len(outline.classes), f"since classes have fewer than {_ITEMS_OF_CLASS} items on average"
            reasons.append(f"conditional on {count} classes" if _has_classes(outline) else f"not conditional, {few}")
    layers = below if below is not None else [ConfigLayer(f"recipe {source}", catalog.recipe(source or "").data)]
    base = merge(layers)[0]
    fields = _fields(dataset, catalog, base, keep=below is not None)
    set_by_user = _table(own.get("dataset")).keys() - {"name"}
    changes = {f"dataset.{key}": value for key, value in fields if key not in set_by_user} | changes
    batch = base.get("batch_size", Options().batch_size)
    if outline is not None and "batch_size" not in own and isinstance(batch, int):
        fits = fitting_batch(outline.items, batch)
        if fits != batch:
            changes["batch_size"] = fits
            reasons.append(f"batch_size {fits} instead of {batch}, since there are {outline.items:,} items")
    if too_few := _unmeasurable(dataset, merge(layer for layer in layers if _recipe_of(layer))[0], own):
        changes |= {f"metrics.{label}": REMOVE for label in too_few}
        reasons.append(f"without {', '.join(too_few)}, since fewer than {_ITEMS_TO_MEASURE} items say little")
    return Suggestion(
        (*layers, ConfigLayer(f"choice for {path}", _nested(changes))),
        source,
        f"{path} (dataset {dataset.name})" + (f": {_data_text(outline)}" if outline else ""),
        "; ".join(reasons),
        changes,
    )


def fitting_batch(items: int, wanted: int) -> int:
    """Return the largest batch size up to `wanted` that data of this many items allows.

    No epoch ends with a batch of one item, which batch normalization does not take.
    """
    batch = min(items, wanted)
    while batch > 1 and items % batch == 1:
        batch -= 1
    return max(batch, 1)


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


def _reduced(
    dataset: Dataset, outline: Outline, path: Path | str, catalog: Catalog, own: Table, *, accelerated: bool
) -> tuple[Dataset, Outline, list[str]]:
    """Return the dataset with smaller pictures, their outline, and the reason; as they are if they need not be."""
    most = _GPU_SIDE if accelerated else _CPU_SIDE
    if len(outline.shape) != 3 or min(outline.shape[1:]) <= most:
        return dataset, outline, []
    channels, *sides = outline.shape
    scale = most / min(sides)
    shape: Shape = (channels, *(max(round(side * scale / _SIDE_STEP), 1) * _SIDE_STEP for side in sides))
    with suppress(DataError):  # arrays cannot be reduced
        smaller = dataset_at(path, catalog, shape, name=dataset.name)
        smaller = _with_fields(smaller, catalog, _table(own.get("dataset")))
        found = outline_of(smaller)
        if found and found.shape == shape:
            return smaller, found, [f"pictures reduced to {'x'.join(map(str, shape[1:]))} for speed (dataset.size)"]
    return dataset, outline, []


def _recipe_for(outline: Outline, catalog: Catalog, *, accelerated: bool) -> str:
    shape = outline.shape
    known = {recipe.name for recipe, _ in catalog.recipes()}
    if len(shape) == 1 and "table" in known:
        return "table"
    if len(shape) != 3:
        return "arrays"
    channels, height, width = shape
    side, common = min(height, width), gcd(height, width)
    if channels == 1 and side <= _CPU_SIDE and common % _PATCH == 0 and outline.items >= _GRAY_ITEMS:
        return "conditional" if _has_classes(outline) else "mnist"
    if accelerated and side > _LARGEST_SMALL_SIDE and common % _SIDE_STEP == 0:
        return "folder"
    return "small-pictures" if _patch(height, width) else "arrays"


def _patch(height: int, width: int) -> int | None:
    """Return the side of a patch that divides images into enough patches; None if no side does."""
    common, side = gcd(height, width), min(height, width)
    possible = [patch for patch in range(2, common + 1) if common % patch == 0 and side // patch >= _FEWEST_PATCHES]
    preferred = [patch for patch in possible if side // patch >= 2 * _FEWEST_PATCHES - 1] or possible
    return min(preferred, key=lambda patch: (abs(patch - _PATCH), patch), default=None)


def _fitted(recipe: str, outline: Outline, own: Table) -> Iterator[tuple[str, object]]:
    """Yield the keys of a chosen recipe that this data needs, unless the user sets them."""
    if recipe == "small-pictures":
        patch = _patch(outline.shape[1], outline.shape[2])
        for player in ("generator", "discriminator"):
            if patch != _PATCH and "name" not in _table(own.get(player)):
                yield f"{player}.patch", patch
    if recipe in ("small-pictures", "folder") and outline.shape[0] not in _COLOR:
        yield "augmentations.diffaugment.policy", ["translation", "cutout"]
    if recipe != "conditional" and _has_classes(outline) and "conditional" not in _table(own.get("training")):
        yield "training.conditional", True


def _has_classes(outline: Outline) -> bool:
    return 1 < len(outline.classes) <= outline.items / _ITEMS_OF_CLASS


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


def _nested(changes: Mapping[str, object]) -> dict[str, Any]:  # Any: data as a file would hold it
    data: dict[str, Any] = {}
    for key, value in changes.items():
        *tables, last = key.split(".")
        table = data
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = value
    return data


def _data_text(outline: Outline) -> str:
    text = f"{outline.items:,} {_shape_text(outline.shape)}"
    if outline.classes:
        names = ", ".join(outline.classes[:_NAMED_CLASSES]) + (", …" if len(outline.classes) > _NAMED_CLASSES else "")
        text += f", {len(outline.classes)} classes ({names})"
    return text


def _shape_text(shape: Shape) -> str:
    return _KIND.get(len(shape), "items of {}").format("x".join(map(str, shape)))
