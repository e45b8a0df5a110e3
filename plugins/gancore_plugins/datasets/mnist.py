"""MNIST, and the reader that datasets of the same form share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gancore.contracts import EvaluationProtocol, Split
from gancore.errors import DataError
from gancore.utils.files import alone
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.download import FAILURES, fetch, unmade
from gancore_plugins.datasets.published import RELEASES

if TYPE_CHECKING:
    from gancore_plugins.datasets.labeled import LabeledTensors

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_SIDE = 28
METRICS = (
    "fd-digits",
    "kid-digits",
    "is-digits",
    "precision-digits",
    "recall-digits",
    "density-digits",
    "coverage-digits",
    "class-kl-digits",
    "memorization-digits",
    "fd-random",
)
"""How labeled images with a held-out part are measured."""


class MNIST(Divided):
    """Handwritten digits, 28x28 gray, 60000 to train and 10000 to test, LeCun et al. 1998.

    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition, 1998.
    """

    name = "mnist"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.993)
    split: Literal["train", "test"] = Field(default="train", description="which of the published sets to use")

    def prepare(self, root: Path) -> Iterator[float]:
        yield from prepare_split(root, "MNIST", self.split)

    def build(self, root: Path) -> LabeledTensors:
        return read_split(root, "MNIST", self.split, tuple("0123456789"))


def prepare_split(root: Path, folder: str, split: Split) -> Iterator[float]:
    """Has the files of a split downloaded where they are not there; yields the share that is done.

    Raise DataError when they cannot be had (see `read_split`).
    """
    places, names = _places(root, folder), _FILES[split]
    if _found(places, names):
        return
    into = places[0]
    try:
        with unmade(into), alone(into / folder):
            missing = [f"{name}.gz" for name in names if not _locate(into, name)]
            for number, name in enumerate(missing):
                for share in fetch(RELEASES[folder], name, into):
                    yield (number + share) / len(missing)
    except FAILURES as error:
        raise DataError(
            f"{folder} needs the files {' and '.join(names)}, each plain or with .gz, together in one of the folders "
            f"{', '.join(map(str, places))}; they are not there, and the download failed: {error}",
            f"put the files into {into}, or {_elsewhere(folder)}",
        ) from error


def read_split(root: Path, folder: str, split: Split, classes: tuple[str, ...]) -> LabeledTensors:
    """Images uint8 (N, 1, 28, 28) and labels of a split that has the form and file names of MNIST.

    The two files, each plain or with .gz, are looked for in root/folder/raw, root/folder and, for MNIST, root; where
    they are absent they are downloaded into the first of these, as the release `folder` (see `published`).
    Raise DataError when they cannot be had, are damaged, or do not fit each other or `classes`.
    """
    from gancore_plugins.datasets.idx import read_idx
    from gancore_plugins.datasets.labeled import LabeledTensors

    for _ in prepare_split(root, folder, split):  # nothing is left to do where it was prepared
        pass
    places = _places(root, folder)
    images_path, labels_path = _found(places, _FILES[split]) or [places[0] / name for name in _FILES[split]]
    images = read_idx(images_path, dims=3)
    count, height, width = images.shape
    if (height, width) != (_SIDE, _SIDE):
        raise DataError(
            f"{images_path}: images of {folder} have {_SIDE}x{_SIDE} pixels; received {height}x{width}",
            "check that this is the right file",
        )
    labels = read_idx(labels_path, dims=1)
    if count == 0 or count != len(labels):
        raise DataError(
            f"images and labels must be equally many, and at least one; received {count} images in {images_path} "
            f"and {len(labels)} labels in {labels_path}",
            "check that both files belong to the same split",
        )
    if (highest := int(labels.max())) >= len(classes):
        raise DataError(
            f"{labels_path}: labels of {folder} lie in 0..{len(classes) - 1}; received {highest}",
            "check that this is the right file",
        )
    return LabeledTensors(images.unsqueeze(1), labels.long(), classes)


def _places(root: Path, folder: str) -> Sequence[Path]:
    # Files of other data have the names of MNIST's, so what lies in the root itself is taken for MNIST alone.
    return (root / folder / "raw", root / folder, *([root] if folder == "MNIST" else []))


def _elsewhere(folder: str) -> str:
    if folder == "MNIST":
        return "name the folder that holds them with --data-dir"
    return f"into a folder {folder} in the one that --data-dir names"


def _found(places: Sequence[Path], names: Sequence[str]) -> Sequence[Path]:
    """The files of these names, all in one place, so that files of two datasets do not mix; or none."""
    for place in places:
        found = [path for name in names if (path := _locate(place, name))]
        if len(found) == len(names):
            return found
    return []


def _locate(place: Path, name: str) -> Path | None:
    return next((path for path in (place / name, place / f"{name}.gz") if os.path.exists(path)), None)
