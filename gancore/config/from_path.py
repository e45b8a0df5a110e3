"""The dataset for files of the user: found by asking each dataset whether it reads them."""

from __future__ import annotations

from pathlib import Path

from gancore.catalog.catalog import Catalog
from gancore.catalog.discovery import BUILT_IN
from gancore.contracts import Dataset, Shape
from gancore.errors import DataError, PluginError, blame


def dataset_at(path: Path | str, catalog: Catalog, shape: Shape | None = None) -> Dataset:
    """Return the dataset that reads a path, with the settings that fit its files best; built-ins are asked first.

    `shape`, if given, is the shape that its samples must have.
    Raises DataError when there is nothing at the path, when no dataset reads it, and when it cannot be read;
    PluginError when no dataset reads it and a plugin failed when it was asked.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"there is no file or folder {path}", "check the path")
    failure: PluginError | None = None
    offers = catalog.offers(Dataset)  # type: ignore[type-abstract]  # offers are concrete
    for kind, plugin in sorted(offers, key=lambda offer: offer[1].package != BUILT_IN):
        try:
            with blame(f"dataset {kind.name!r}", f"in from_path(), of {plugin.description}"):
                dataset = kind.from_path(path, shape)
        except PluginError as error:
            failure = error
            continue
        if dataset is not None:
            return dataset
    names = ", ".join(kind.name for kind, _ in offers if _reads_paths(kind))
    raise failure or DataError(
        f"no dataset reads {path}", f"the datasets that read files of yours are {names}; see: gancore show dataset NAME"
    )


def _reads_paths(kind: type[Dataset]) -> bool:
    return kind.from_path.__func__ is not Dataset.from_path.__func__  # type: ignore[attr-defined]  # of a classmethod
