"""The dataset for files of the user: found by asking each dataset whether it reads them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TypeVar

from gancore.catalog.catalog import Catalog
from gancore.catalog.discovery import BUILT_IN
from gancore.config.data_paths import absolute
from gancore.contracts import Dataset, Findings, Outline, Shape
from gancore.errors import DataError, PluginError, blame, did_you_mean

T = TypeVar("T")

_MOST_ENTRIES = 10_000
"""How many entries of a folder are looked at, to say what is in it."""
_DECODING = ("fit", "bits", "max_pixels", "on_error")
"""Fields of a dataset that say how files are decoded, beyond the shape of a sample."""


def dataset_at(path: Path | str, catalog: Catalog, shape: Shape | None = None, *, name: str | None = None) -> Dataset:
    """Return the dataset that reads a path, with the settings that fit its files best; built-ins are asked first.

    `shape`, if given, is the shape that its samples must have; `name` is the only dataset to ask.
    Where one of them fails, the others are asked, and it is named in a warning if one of them reads the path. Raises
    DataError when there is nothing at the path, when no dataset reads it, and when it cannot be read; PluginError when
    no dataset reads it and a plugin failed when it was asked.
    """
    path = existing(path)
    failures: list[DataError | PluginError] = []
    every = catalog.offers(Dataset)  # type: ignore[type-abstract]  # offers are concrete
    offers = sorted(every, key=lambda offer: offer[1].package != BUILT_IN)
    if name is not None:
        only = catalog.find(Dataset, name)  # type: ignore[type-abstract]  # as above
        offers = [offer for offer in offers if offer[0] is only]
    for kind, plugin in offers:
        try:
            with blame(f"dataset {kind.name!r}", f"in from_path(), of {plugin.description}"):
                dataset = _of_type(kind, kind.from_path(path, shape))
        except (DataError, PluginError) as error:
            failures.append(error)
            continue
        if dataset is not None:
            for failure in failures:
                if isinstance(failure, PluginError):
                    warnings.warn(f"{failure}; dataset {kind.name} reads {path}", stacklevel=2)
            return dataset
    if failures:  # what is wrong with the data tells more than a plugin that failed
        raise min(failures, key=lambda failure: isinstance(failure, PluginError))
    kinds = [kind for kind, _ in every if reads_paths(kind)]
    what = "no dataset reads" if name is None else f"dataset {name} does not read"
    raise DataError(
        f"{what} {path}{_contents(path)}" + (f" as data of shape {shape}" if shape else ""),
        f"datasets that read files: {'; '.join(map(_what_it_reads, kinds))}; see: gancore show dataset NAME",
    )


def dataset_for(
    path: Path | str, catalog: Catalog | None = None, shape: Shape | None = None, like: Dataset | None = None
) -> Dataset:
    """Return the dataset that reads a path to be compared with samples of this shape.

    Without a shape, pictures keep the size that most have. If the dataset is of the kind of `like`, files are decoded
    with its settings. `catalog` is by default that of the installed plugins. Raises as `dataset_at` does.
    """
    catalog = catalog or Catalog.installed()
    dataset = dataset_at(path, catalog, shape)
    if shape is None:
        outline = outline_of(dataset)
        if outline is not None and outline.original not in (None, outline.shape):
            dataset = dataset_at(path, catalog, outline.original, name=dataset.name)
    if like is not None and type(like) is type(dataset):
        fields = {name: getattr(like, name) for name in _DECODING if name in type(like).model_fields}
        dataset = dataset.model_copy(update=fields)
    return dataset


def outline_of(dataset: Dataset) -> Outline | None:
    """Return what a dataset knows of its data before it is read. Raise PluginError when it fails, DataError as it."""
    with blame(f"dataset {dataset.name!r}", "in outline()"):
        return _of_type(Outline, dataset.outline())


def findings_of(dataset: Dataset, root: Path) -> Findings | None:
    """Return what a dataset found in the user's files. Raise PluginError when it fails."""
    with blame(f"dataset {dataset.name!r}", "in findings()"):
        return _of_type(Findings, dataset.findings(root))


def _of_type(kind: type[T], value: T | None) -> T | None:
    """Return what a plugin has returned. Raise TypeError for another type."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"it returned {type(value).__name__}, not {kind.__name__} or None")
    return value


def existing(path: Path | str) -> Path:
    """Return a path of the user, with `~` as the home folder.

    Raises DataError when there is nothing, and when it is not UTF-8.
    """
    path = Path(os.path.expanduser(path))
    if not os.path.exists(path):  # unlike `Path.exists`, which raises for a name that is too long
        if os.path.islink(path):
            raise DataError(f"{path} is a link to {path.readlink()}, which does not exist", "fix the link")
        raise DataError(f"there is no file or folder {path}", did_you_mean(path))
    absolute(path)
    return path


def _contents(path: Path) -> str:
    """Return what is in a folder, such as `, which holds 3 .txt and 1 folder`; empty for a file."""
    if not path.is_dir():
        return ""
    kinds = Counter(
        "folder" if entry.is_dir() else entry.suffix.lower() or "without a suffix"
        for entry in islice(path.iterdir(), _MOST_ENTRIES)
    )
    return f", which holds {' and '.join(f'{count} {kind}' for kind, count in kinds.most_common(3))}"


def _what_it_reads(kind: type[Dataset]) -> str:
    """Return the name of a dataset, with what its key `path` may name."""
    field = kind.model_fields.get("path")
    return f"{kind.name} ({field.description})" if field and field.description else kind.name


def reads_paths(kind: type[Dataset]) -> bool:
    """Return whether a dataset reads paths of the user."""
    return kind.from_path.__func__ is not Dataset.from_path.__func__  # type: ignore[attr-defined]  # of a classmethod
