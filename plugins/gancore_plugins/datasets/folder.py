"""A folder of the user's own pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gancore.contracts import Dataset
from gancore.errors import DataError
from gancore.utils.files import MOST_PIXELS, Paths, pictures_below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.utils.data import Dataset as TorchDataset


class Folder(Dataset):
    """Pictures of a folder and of the folders in it, decoded once to one size, and kept for the next run.

    What is kept lies below the folder of `--data-dir`, and is made anew when a picture, or a setting, has changed.
    """

    name = "folder"
    path: str = Field(description="the folder, with pictures at any depth")
    size: int = Field(default=64, ge=1, le=4096, description="height and width in pixels")
    channels: Literal[1, 3, 4] = Field(default=3, description="gray, color, or color with transparency")
    fit: Literal["crop", "pad", "stretch"] = Field(
        default="crop", description="to a square: cut off what is too long, fill up what is too short, or distort"
    )
    classes: bool = Field(default=False, description="whether the folders in it are classes")
    mirrors: bool = Field(default=False, description="whether augmentations may mirror the pictures")
    max_pixels: int = Field(
        default=MOST_PIXELS, ge=1, le=178_000_000, description="a picture that declares more is refused unread"
    )

    def prepare(self, root: Path) -> Iterator[float]:
        from gancore_plugins.datasets.pictures import Kept

        yield from Kept.of(self, self._pictures(), root).make()

    def build(self, root: Path) -> TorchDataset[Any]:  # Any: (image, label), or an image alone
        from gancore_plugins.datasets.pictures import Kept, Pictures

        paths = self._pictures()
        kept = Kept.of(self, paths, root)
        for _ in kept.make():  # nothing is left to do where it was prepared
            pass
        labels, classes = _classes(paths) if self.classes else (None, None)
        return Pictures(kept.path, labels, classes, self.mirrors)

    def _pictures(self) -> Paths:
        """All pictures, in the order of their paths. Raises DataError when there are none, or one has no class."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}", "name one: --set dataset.path=FOLDER")
        paths = pictures_below(folder)
        if self.classes and (loose := next((name for name in paths.names() if "/" not in name), None)):
            raise DataError(
                f"with classes every picture lies in a folder that is its class; {folder / loose} lies in none",
                "move it, or leave classes out",
            )
        return paths


def _classes(paths: Paths) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The label of each picture, and the folders that these are the numbers of, in the order of their names."""
    import numpy as np

    known: dict[str, int] = {}
    folders = (name.partition("/")[0] for name in paths.names())  # ordered, as the paths are
    labels = np.fromiter((known.setdefault(folder, len(known)) for folder in folders), np.int32, len(paths))
    return labels, tuple(known)
