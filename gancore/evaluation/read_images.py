"""Images and conditions in files of the user. Datasets read them, so that evaluation reads as training does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from gancore.config.from_path import dataset_for, findings_of
from gancore.contracts import Dataset, Shape
from gancore.data.items import build_dataset, read_items
from gancore.errors import DataError
from gancore.evaluation.sources import ReferenceImages
from gancore.utils.sample_format import SampleFormat


def read_images(path: Path | str, shape: Shape | None = None) -> Tensor:
    """Return the images, or other samples, in a file or folder as they are stored: (N, *shape), uint8 or float32.

    Datasets read it, as `gancore train PATH` does: folders and archives of pictures, and arrays. Pictures are decoded
    to `shape`; without it to the size that they have, or to the size that the dataset chooses if they have several.
    Labels are left out. Images that are too large for memory are in a temporary file.
    Raises DataError when nothing can be read.
    """
    with TemporaryDirectory(prefix="gancore-") as root:
        images = ReferenceImages.of(dataset_for(path, shape=shape), root)
        return images.draw(len(images), 0, "images")


def read_conditions(dataset: Dataset, path: Path, shape: Shape, like: Dataset | None = None) -> Tensor:
    """Return the conditions (N, *shape), uint8 or float32, at the path that the dataset reads.

    Those in pictures with 16 bits are mapped to [-1, 1]: from the `value_range` that is set for `like`, the dataset of
    the run, else from all 16 bits. Raises DataError for other shapes.
    """
    of_pictures = hasattr(dataset, "bits")
    value_range = getattr(like, "value_range", None) if hasattr(like, "bits") else None
    if of_pictures and value_range is not None:
        dataset = dataset.model_copy(update={"bits": 16})
    with TemporaryDirectory(prefix="gancore-") as root:
        given = read_items(build_dataset(dataset, Path(root)))[0]
    if given.shape[1:] != shape:
        raise DataError(
            f"conditions must have shape (N, {', '.join(map(str, shape))}); {path} holds {tuple(given.shape)}",
            "resize or reshape them; for a single one, save condition[None]",
        )
    if of_pictures and given.is_floating_point():
        return SampleFormat.of(given[0], value_range or (0, 65535)).to_network(given)
    return given


def warnings_of(dataset: Dataset, path: Path | str, root: Path) -> Iterator[str]:
    """Yield what is left out or changed in the files of a dataset, after it was prepared."""
    findings = findings_of(dataset, root)
    if findings is None:
        return
    if findings.skipped:
        yield f"{path}: {findings.in_words()}"
    if findings.resized:
        yield (
            f"{findings.resized:,} images of {path} are resized: compare numbers only where images are resized in the "
            f"same way; sizes: {findings.facts.get('sizes', 'several')}"
        )
