"""The data of a run that is resumed: where it is now, and whether it is what the run was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gancore.catalog.catalog import Catalog
from gancore.config.data_paths import absolute, paths_of, with_paths
from gancore.config.from_path import dataset_at, existing, outline_of
from gancore.contracts import Dataset, Shape
from gancore.errors import CheckpointError, ConfigError, DataError, PluginError
from gancore.training.gan import GAN

_LISTED = 10
"""Number of classes of a kind that a message lists."""


def moved(dataset: Dataset, path: Path | str, catalog: Catalog, shape: Shape | None) -> Dataset:
    """Return the dataset with its files at another path: with the same settings if its class reads them there.

    Otherwise it is the dataset that does, for samples of this shape. Raises ConfigError for a dataset without a path of
    its own, DataError when there is nothing at the path or no dataset reads it.
    """
    if len(old := paths_of(dataset)) != 1:
        raise ConfigError(
            f"--data replaces the path of a dataset; {dataset.name!r} has {len(old) or 'none'}",
            "replace them one by one, with --set" if old else "name the folder of its files with --data-dir",
        )
    place = absolute(existing(path))
    there = with_paths(dataset, lambda _: place)
    try:
        outline_of(there)
    except DataError:
        try:
            other = dataset_at(place, catalog, shape)
        except (DataError, PluginError):
            other = there
        if type(other) is type(there):
            raise
        return other
    return there


@dataclass(frozen=True)
class TrainedOn:
    """The data that a run was trained on: `data_format` of its checkpoint, or None.

    `run` is its folder, `new_run` the command that trains a new run from its weights.
    """

    data_format: Mapping[str, Any] | None  # Any: JSON
    run: str
    new_run: str

    def check_outline(self, dataset: Dataset) -> list[str]:
        """Compare what is known of the data before it is decoded; return warnings.

        Raises CheckpointError when the shape or, in a run that is conditional on classes, their names are others.
        """
        if self.data_format is None or (outline := outline_of(dataset)) is None:
            return []
        return list(self._compared({"shape": list(outline.shape), "classes": list(outline.classes)}))

    def check(self, gan: GAN) -> list[str]:
        """Compare the data of an assembled GAN, as `check_outline` does."""
        return list(self._compared(json.loads(json.dumps(gan.feed.describe(gan.spec)))))

    def _compared(self, now: Mapping[str, Any]) -> Iterator[str]:  # Any: JSON
        """Yield a warning for each fact that is known of both and differs, as far as the networks still fit."""
        before = self.data_format or {}
        changed = {key: (before[key], now[key]) for key in before if key in now and before[key] != now[key]}
        if "shape" in changed:
            old, new = changed["shape"]
            raise CheckpointError(
                f"the run in {self.run} was trained on data of shape {old}; it is now {new}",
                "restore the data and its settings, or train on the new data: gancore train PATH",
            )
        classes = changed.pop("classes", ([], []))
        if all(classes):  # empty without classes, and where they are not asked for
            difference = (
                f"the data has other classes than the run in {self.run} was trained on: {_difference(*classes)}"
            )
            if isinstance(before["condition"], int):
                raise CheckpointError(difference, f"restore them, or start a new run from its weights: {self.new_run}")
            yield difference
        decisive = ["condition", "dtype"]
        if None in changed.get("value_range", ()):  # networks of data with a range end in it, others do not
            decisive.append("value_range")
        for key in decisive:
            if key in changed:
                old, new = changed[key]
                raise CheckpointError(
                    f"the run in {self.run} was trained on data of {key} {old}; it is now {new}",
                    f"restore the data and its settings, or start a new run from its weights: {self.new_run}",
                )
        if others := [key for key in ("value_range", "scales", "mirrors") if key in changed]:
            yield f"resuming is not bit-exact: other {', '.join(others)} of the data"
        if "columns" in changed:
            yield "the columns of the data have other names than at the checkpoint"


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    """Return how two lists of classes differ, by their names."""
    renamed = [
        (old, new)
        for old, new in zip(before, now, strict=False)
        if len(before) == len(now) and old not in now and new not in before
    ]
    gone, come = ({pair[end] for pair in renamed} for end in (0, 1))
    found = {
        "renamed or replaced": [f"{_shown(old)} is now {_shown(new)}" for old, new in renamed],
        "missing": [_shown(name) for name in before if name not in now and name not in gone],
        "added": [_shown(name) for name in now if name not in before and name not in come],
    }
    if not any(found.values()):
        order = [name for name, other in zip(now, before, strict=False) if name != other]
        found["in another order"] = [f"{_shown(name)} is number {list(now).index(name)}" for name in order]
    return "; ".join(f"{how}: {_some(names)}" for how, names in found.items() if names)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)
