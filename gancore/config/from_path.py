"""The dataset for files of the user: found by asking each dataset whether it reads them."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

from gancore.catalog.catalog import Catalog
from gancore.catalog.discovery import BUILT_IN
from gancore.contracts import Dataset, Shape
from gancore.errors import DataError, PluginError, blame

_MOST_ENTRIES = 10_000
"""How many entries of a folder are looked at, to say what is in it."""
_DECODING = ("fit", "bits", "max_pixels", "on_error")
"""Fields of a dataset that say how files are decoded, beyond the shape of a sample."""


def dataset_at(path: Path | str, catalog: Catalog, shape: Shape | None = None, *, name: str | None = None) -> Dataset:
    """Return the dataset that reads a path, with the settings that fit its files best; built-ins are asked first.

    `shape`, if given, is the shape that its samples must have; `name` is the only dataset to ask.
    Raises DataError when there is nothing at the path, when no dataset reads it, and when it cannot be read;
    PluginError when no dataset reads it and a plugin failed when it was asked.
    """
    path = existing(path)
    failure: PluginError | None = None
    every = catalog.offers(Dataset)  # type: ignore[type-abstract]  # offers are concrete
    offers = sorted(every, key=lambda offer: offer[1].package != BUILT_IN)
    if name is not None:
        only = catalog.find(Dataset, name)  # type: ignore[type-abstract]  # as above
        offers = [offer for offer in offers if offer[0] is only]
    for kind, plugin in offers:
        try:
            with blame(f"dataset {kind.name!r}", f"in from_path(), of {plugin.description}"):
                dataset = kind.from_path(path, shape)
        except PluginError as error:
            failure = error
            continue
        if dataset is not None:
            return dataset
    names = ", ".join(kind.name for kind, _ in every if _reads_paths(kind))
    what = "no dataset reads" if name is None else f"dataset {name} does not read"
    raise failure or DataError(
        f"{what} {path}{_contents(path)}" + (f" as data of shape {shape}" if shape else ""),
        f"the datasets that read files of yours are {names}; see: gancore show dataset NAME",
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
        with blame(f"dataset {dataset.name!r}", "in outline()"):
            outline = dataset.outline()
        if outline is not None and outline.original not in (None, outline.shape):
            dataset = dataset_at(path, catalog, outline.original, name=dataset.name)
    if like is not None and type(like) is type(dataset):
        fields = {name: getattr(like, name) for name in _DECODING if name in type(like).model_fields}
        dataset = dataset.model_copy(update=fields)
    return dataset


def existing(path: Path | str) -> Path:
    """Return a path of the user, with `~` as the home folder.

    Raises DataError when there is nothing, and when its name is not UTF-8, which a config cannot hold.
    """
    path = Path(path).expanduser()
    if not path.exists():
        if path.is_symlink():
            raise DataError(f"{path} is a link to {path.readlink()}, which does not exist", "fix the link")
        raise DataError(f"there is no file or folder {path}", "check the path")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = ascii(str(path))
        raise DataError(f"the name {shown} is not UTF-8, so a config cannot hold it", "rename it") from error
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


def _reads_paths(kind: type[Dataset]) -> bool:
    return kind.from_path.__func__ is not Dataset.from_path.__func__  # type: ignore[attr-defined]  # of a classmethod
