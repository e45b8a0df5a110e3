"""MNIST, and datasets that are published in its form: Fashion-MNIST and KMNIST."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from gancore.contracts import EvaluationProtocol
from gancore.errors import DataError
from gancore.utils.lock import exclusive
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.download import DOWNLOAD_ERRORS, fetch, remove_new_folders_on_error
from gancore_plugins.datasets.idx import read_idx
from gancore_plugins.datasets.labeled import LabeledTensors
from gancore_plugins.datasets.published import RELEASES

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_SIDE = 28
METRICS = (
    "fd-classifier",
    "kid-classifier",
    "is-classifier",
    "precision-classifier",
    "recall-classifier",
    "density-classifier",
    "coverage-classifier",
    "class-kl-classifier",
    "memorization-classifier",
    "fd-random",
)
"""Default metrics for labeled images with a held-out part."""


class _MNISTFiles(Divided):
    """Images 28x28 gray of ten classes, in one IDX file for images and one for labels, each plain or with .gz.

    Both files are looked for in ROOT/RELEASE/raw and ROOT/RELEASE, for MNIST also in ROOT. If they are in none of these
    folders, they are downloaded to the first.
    """

    release: ClassVar[str]
    """A key of RELEASES, and the name of the folder."""
    class_names: ClassVar[tuple[str, ...]]
    split: Literal["train", "test"] = Field(default="train", description="which of the published sets to use")

    def prepare(self, root: Path) -> Iterator[float]:
        names = _FILES[self.split]
        if self._paths(root):
            return
        folders = self._folders(root)
        into = folders[0]
        try:
            with remove_new_folders_on_error(into), exclusive(into / self.release):
                missing = [f"{name}.gz" for name in names if not _plain_or_gz(into, name)]
                for number, name in enumerate(missing):
                    for share in fetch(RELEASES[self.release], name, into):
                        yield (number + share) / len(missing)
        except DOWNLOAD_ERRORS as error:
            where = "their folder" if self.release == "MNIST" else f"a folder that has them in {self.release}/"
            raise DataError(
                f"{self.release} needs the files {' and '.join(names)}, each plain or with .gz, together in one of the "
                f"folders {', '.join(map(str, folders))}; they are missing, and the download failed: {error}",
                f"put the files into {into}, or set --data-dir to {where}",
            ) from error

    def build(self, root: Path) -> LabeledTensors:
        for _ in self.prepare(root):  # does nothing if the files exist
            pass
        images_path, labels_path = self._paths(root) or [self._folders(root)[0] / name for name in _FILES[self.split]]
        images = read_idx(images_path, dims=3)  # (N, 28, 28)
        count, height, width = images.shape
        if (height, width) != (_SIDE, _SIDE):
            raise DataError(
                f"{images_path}: images of {self.release} have {_SIDE}x{_SIDE} pixels; received {height}x{width}",
                "check that this is the right file",
            )
        labels = read_idx(labels_path, dims=1)  # (N,)
        if count == 0 or count != len(labels):
            raise DataError(
                f"the number of images and labels must be equal, and at least 1; received {count} images in "
                f"{images_path} and {len(labels)} labels in {labels_path}",
                "check that both files belong to the same split",
            )
        if (highest := int(labels.max())) >= len(self.class_names):
            raise DataError(
                f"{labels_path}: labels of {self.release} are in 0..{len(self.class_names) - 1}; received {highest}",
                "check that this is the right file",
            )
        return LabeledTensors(images.unsqueeze(1), labels.long(), self.class_names)

    def _folders(self, root: Path) -> list[Path]:
        # Other datasets use the same file names, so files in the root itself are taken for MNIST only.
        return [root / self.release / "raw", root / self.release, *([root] if self.release == "MNIST" else [])]

    def _paths(self, root: Path) -> list[Path]:
        """Return the paths of both files, from the first folder that has both; or an empty list."""
        for folder in self._folders(root):
            found = [path for name in _FILES[self.split] if (path := _plain_or_gz(folder, name))]
            if len(found) == len(_FILES[self.split]):
                return found
        return []


class MNIST(_MNISTFiles):
    """Handwritten digits, 28x28 gray, 60000 to train and 10000 to test, LeCun et al. 1998.

    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition, 1998.
    """

    name = "mnist"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.993)
    release = "MNIST"
    class_names = tuple("0123456789")


class FashionMNIST(_MNISTFiles):
    """Articles of clothing, 28x28 gray, 60000 to train and 10000 to test, Xiao et al. 2017 (arXiv:1708.07747).

    Shoes point to the left, so a mirrored image is not as likely as the image.
    """

    name = "fashion-mnist"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.88)
    release = "FashionMNIST"
    class_names = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )


class KMNIST(_MNISTFiles):
    """Cursive Japanese, 28x28 gray, 60000 to train and 10000 to test, Clanuwat et al. 2018 (arXiv:1812.01718)."""

    name = "kmnist"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.93)
    release = "KMNIST"
    class_names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


def _plain_or_gz(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if os.path.exists(path)), None)
