"""Pairs of pictures, for generators that translate one picture into another (pix2pix)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field
from torch.utils.data import Dataset as TorchDataset

from gancore.errors import DataError
from gancore.utils.files import some
from gancore_plugins.datasets.picture_cache import PictureCache
from gancore_plugins.datasets.pictures import PictureDataset, Pictures
from gancore_plugins.readers.picture_files import FolderFiles, picture_files

if TYPE_CHECKING:
    from torch import Tensor


class Paired(PictureDataset):
    """Pairs of pictures: a target to generate, and an input, the condition; in two folders, or side by side in one.

    In two folders, pictures with the same path below them, apart from the suffix, are a pair. Both are decoded once to
    one size, and cached for later runs in the folder that `--data-dir` names.
    """

    name = "paired"
    path: str = Field(default=".", description="folder that holds both folders, or the pictures side by side")
    inputs: str = Field(default="inputs", description="folder of the inputs: below `path`, or an absolute path")
    targets: str = Field(default="targets", description="folder of the targets: below `path`, or an absolute path")
    side_by_side: Literal["left", "right"] | None = Field(
        default=None, description="each picture below `path` is a pair, and this half the input; absent: two folders"
    )
    channels: Literal[1, 3, 4] = Field(default=3, description="of targets: gray, color, or color with transparency")
    input_channels: Literal[1, 3, 4] | None = Field(
        default=None, description="of inputs: gray, color, or color with transparency; absent: as `channels`"
    )

    def prepare(self, root: Path) -> Iterator[float]:
        yield from self.decoded(self._caches(root))

    def build(self, root: Path) -> Pairs:
        caches = self._caches(root)
        rows = self.rows(caches)
        targets, inputs = (Pictures(cache.path, rows=rows, value_range=self.range_of(cache)) for cache in caches)
        return Pairs(targets, inputs, self.value_range or (0.0, 65535.0))

    def _caches(self, root: Path) -> tuple[PictureCache, PictureCache]:
        """Return the caches of targets and inputs. Raise DataError for pictures without a partner."""
        folder, channels = Path(self.path).expanduser(), self.input_channels or self.channels
        if self.side_by_side is not None:
            names = _names(folder)
            other: Literal["left", "right"] = "left" if self.side_by_side == "right" else "right"
            return self._cache(root, folder, names, self.channels, other), self._cache(
                root, folder, names, channels, self.side_by_side
            )
        folders = [folder / Path(name).expanduser() for name in (self.targets, self.inputs)]
        targets, inputs = _matched(*folders)
        return self._cache(root, folders[0], targets, self.channels), self._cache(root, folders[1], inputs, channels)

    def _cache(
        self,
        root: Path,
        folder: Path,
        names: list[str],
        channels: int,
        half: Literal["left", "right"] | None = None,
    ) -> PictureCache:
        files = FolderFiles(folder, names)
        return self.cache(root, files, bits=self.bits_of(files), channels=channels, half=half)


class Pairs(TorchDataset[Any]):  # Any: (target, input)
    """Items (target, input) of two lists of pictures, both (C, H, W): uint8; or float32, for 16 bits.

    Conditions of float32 are not mapped by the feed, so inputs are mapped from `input_range` to [-1, 1] here.
    """

    def __init__(self, targets: Pictures, inputs: Pictures, input_range: tuple[float, float]) -> None:
        self.targets, self.inputs, self._input_range = targets, inputs, input_range
        if hasattr(targets, "value_range"):
            self.value_range = targets.value_range

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        target, given = cast("Tensor", self.targets[index]), cast("Tensor", self.inputs[index])  # neither has labels
        if given.is_floating_point():
            low, high = self._input_range
            given = (given - low) * (2 / (high - low)) - 1
        return target, given


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(
            f"folder {folder} does not exist",
            "--set dataset.path=FOLDER, with the folders `inputs` and `targets`, or set dataset.inputs and "
            "dataset.targets",
        )
    return list(picture_files(folder).names)


def _matched(targets: Path, inputs: Path) -> tuple[list[str], list[str]]:
    """Return the names of the pictures in both folders, pair by pair. Raise DataError for one without a partner."""
    of_targets, of_inputs = _by_stem(targets), _by_stem(inputs)
    problems = []
    for folder, own, other_folder, other in (
        (targets, of_targets, inputs, of_inputs),
        (inputs, of_inputs, targets, of_targets),
    ):
        if alone := [name for stem, name in own.items() if stem not in other]:
            problems.append(f"{len(alone)} of {len(own)} in {folder} have no partner in {other_folder}: {some(alone)}")
    if problems:
        raise DataError(
            f"every picture needs a partner of the same name; {'; '.join(problems)}", "add the partners, or remove them"
        )
    return list(of_targets.values()), [of_inputs[stem] for stem in of_targets]


def _by_stem(folder: Path) -> dict[str, str]:
    """Return the names of the pictures below a folder, by their names without suffix."""
    found: dict[str, str] = {}
    for name in _names(folder):
        stem = os.path.splitext(name)[0]
        if stem in found:
            raise DataError(
                f"{found[stem]} and {name} in {folder} differ only in the suffix, so pairs are ambiguous",
                "rename one of them",
            )
        found[stem] = name
    return found
