"""A folder of the user's own pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field

from gancore.contracts import Findings, Outline, Shape
from gancore.errors import DataError
from gancore_plugins.datasets.pictures import PictureDataset, Pictures, findings_of
from gancore_plugins.readers.picture_files import PictureFiles, picture_files

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.utils.data import Dataset as TorchDataset


class Folder(PictureDataset):
    """Pictures of a folder and its subfolders, decoded once to one size and cached for later runs.

    The cache is in the folder that `--data-dir` names. It is built again when a picture or a setting changes.
    """

    name = "folder"
    path: str = Field(description="folder of pictures, searched with its subfolders")
    classes: bool = Field(default=False, description="whether subfolders are classes")
    mirrors: bool = Field(default=False, description="whether augmentations may mirror the pictures")

    def prepare(self, root: Path) -> Iterator[float]:
        yield from self.decoded([self.cache(root, self._files())])

    def build(self, root: Path) -> TorchDataset[Any]:  # Any: (image, label), or an image alone
        files = self._files()
        cache = self.cache(root, files)
        rows = self.rows([cache])
        labels, classes = _labels(files.names) if self.classes else (None, None)
        if labels is not None and classes is not None and rows is not None:
            labels = labels[rows]
            if empty := sorted(set(range(len(classes))) - set(labels.tolist())):
                raise DataError(
                    f"no picture of class {classes[empty[0]]} in {files.place} can be read",
                    "replace its pictures, or remove its folder",
                )
        return Pictures(
            cache.path,
            labels=labels,
            classes=classes,
            mirrors=self.mirrors,
            rows=rows,
            value_range=self.range_of(cache),
        )

    @classmethod
    def from_path(cls, path: Path, shape: Shape | None = None) -> Self | None:
        if not path.is_dir():
            return None
        return cls(path=str(path)) if shape is None else cls(path=str(path), channels=shape[0], size=shape[1:])

    def outline(self) -> Outline:
        files = self._files()
        classes = _labels(files.names)[1] if self.classes else ()
        return Outline(len(files.names), (self.channels, *self.sides), classes)

    def findings(self, root: Path) -> Findings:
        files = self._files()
        cache = self.cache(root, files)
        return findings_of(cache, files.skipped, self.range_of(cache))

    def _files(self) -> PictureFiles:
        """Return the pictures. Raise DataError without pictures, or if one has no class."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise DataError(f"folder {folder} does not exist", "--set dataset.path=FOLDER")
        files = picture_files(folder)
        if self.classes and (name := next((name for name in files.names if "/" not in name), None)):
            raise DataError(
                f"with classes = true every picture must be in a subfolder, its class; {folder / name} is not",
                "move it into a subfolder, or leave classes out",
            )
        return files


def _labels(names: Sequence[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the label of each picture (N,), and the subfolders that are the classes, sorted by name."""
    classes: dict[str, int] = {}
    folders = (name.partition("/")[0] for name in names)  # sorted, as the names are
    labels = np.fromiter((classes.setdefault(folder, len(classes)) for folder in folders), np.int32, len(names))
    return labels, tuple(classes)
