"""Images and conditions in files of the user. Datasets read them, so that evaluation reads as training does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from gancore.catalog.catalog import Catalog
from gancore.config.from_path import dataset_at
from gancore.contracts import Dataset, Shape
from gancore.data.items import build_dataset, read_items
from gancore.errors import DataError, blame

_DECODING = ("fit", "bits", "max_pixels", "on_error")
"""Fields of a dataset that say how files are decoded, beyond the shape of a sample."""


def read_images(path: Path | str, shape: Shape | None = None) -> Tensor:
    """Return the images, or other samples, in a file or folder as they are stored: (N, *shape), uint8 or float32.

    Datasets read it, as `gancore train PATH` does: folders and archives of pictures, and arrays. Pictures are decoded
    to `shape`; without it to the size that they have, or to the size that the dataset chooses if they have several.
    Labels are left out. Raises DataError when nothing can be read.
    """
    with TemporaryDirectory(prefix="gancore-") as root:
        return read_items(build_dataset(dataset_for(path, Catalog.installed(), shape), Path(root)))[0]


def read_conditions(path: Path, shape: Shape, catalog: Catalog) -> Tensor:
    """Return the conditions (N, *shape) in a file or folder, uint8 or float32. Raise DataError for other shapes."""
    with TemporaryDirectory(prefix="gancore-") as root:
        given = read_items(build_dataset(dataset_for(path, catalog, shape), Path(root)))[0]
    if given.shape[1:] != shape:
        raise DataError(
            f"conditions must have shape (N, {', '.join(map(str, shape))}); {path} holds {tuple(given.shape)}",
            "resize or reshape them; for a single one, save condition[None]",
        )
    return given


def dataset_for(path: Path | str, catalog: Catalog, shape: Shape | None = None, like: Dataset | None = None) -> Dataset:
    """Return the dataset that reads a path to be compared with samples of this shape.

    Without a shape, pictures keep the size that most have. If the dataset is of the kind of `like`, files are decoded
    with its settings. Raises as `dataset_at` does.
    """
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


def warnings_of(dataset: Dataset, path: Path | str, root: Path) -> Iterator[str]:
    """Yield what is left out or changed in the files of a dataset, after it was prepared."""
    with blame(f"dataset {dataset.name!r}", "in findings()"):
        findings = dataset.findings(root)
    if findings is None:
        return
    if findings.skipped:
        yield f"{path}: {findings.in_words()}"
    if findings.resized:
        yield (
            f"{findings.resized:,} images of {path} are resized: compare numbers only where images are resized in the "
            f"same way; sizes: {findings.facts.get('sizes', 'several')}"
        )
