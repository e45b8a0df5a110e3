"""Pictures decoded to one size, in parallel, and kept as one array that is read where it lies."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.errors import DataError, StorageError
from gancore_plugins.datasets.folder import SUFFIXES, Folder

_EDITION = 1
"""Of how pictures are decoded; a change makes all that was kept before a matter of the past."""
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_READ = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's modes of pictures with 8 bits a channel."""
_MOST_PIXELS = 100_000_000
_TOLD = 3
"""Broken pictures that an error names."""

Pixels = NDArray[np.uint8]


class Pictures(TorchDataset[Any]):  # Any: (image, label), or an image alone
    """Images uint8 (C, H, W) of an array in a file, which need not fit into memory, perhaps with labels."""

    def __init__(
        self, path: Path, labels: Sequence[int] | None, classes: tuple[str, ...] | None, mirrors: bool
    ) -> None:
        self._images: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        self._path, self._labels, self.mirrors = path, labels, mirrors
        if classes is not None:
            self.classes = classes

    def __reduce__(self) -> tuple[Any, ...]:
        """Processes that load data open the file themselves; pickled, the array would go to each as a whole."""
        return Pictures, (self._path, self._labels, getattr(self, "classes", None), self.mirrors)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        image = torch.from_numpy(self._images[index].copy())
        return image if self._labels is None else (image, self._labels[index])


@dataclass(frozen=True)
class Kept:
    """The array of all pictures of a folder in one form, made or still to be made."""

    settings: Folder
    pictures: Sequence[Path]
    path: Path

    @classmethod
    def of(cls, settings: Folder, pictures: Sequence[Path], root: Path) -> Kept:
        """Where it lies: named by all that has a say in its pixels, sizes and times of change of files included."""
        form = [_EDITION, settings.size, settings.channels, settings.fit]
        seen = [(str(path.absolute()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in pictures]
        key = hashlib.sha256(json.dumps([form, seen]).encode("utf-8", "surrogateescape")).hexdigest()
        return cls(settings, pictures, root / "folders" / f"{key[:24]}.npy")

    def make(self) -> Iterator[float]:
        """Decodes all pictures, unless that was done before; yields the share that is done.

        Raises DataError with the first of those that cannot be read, and their number, StorageError where the array
        cannot be kept. Nothing is left half made.
        """
        if self.path.exists():
            return
        shape = (len(self.pictures), self.settings.channels, self.settings.size, self.settings.size)
        broken: list[str] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The array is written through memory, where a disk that runs full would end the process.
            free, needed = shutil.disk_usage(self.path.parent).free, math.prod(shape)
            if free < needed:
                raise OSError(f"{needed:,} bytes are needed, and {free:,} are free")
            with TemporaryDirectory(prefix=".decoding-", dir=self.path.parent) as spare:
                part = Path(spare, "images.npy")
                images = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
                yield from self._fill(images, broken)
                images.flush()
                if not broken:
                    os.replace(part, self.path)
        except OSError as error:
            raise StorageError(
                f"decoded pictures cannot be kept in {self.path.parent}: {error}", "name another folder with --data-dir"
            ) from error
        if broken:
            more = f", and {len(broken) - _TOLD} more" if len(broken) > _TOLD else ""
            raise DataError(
                f"{len(broken)} of {len(self.pictures)} pictures cannot be read: {'; '.join(broken[:_TOLD])}{more}",
                "replace them, or take them away",
            )

    def _fill(self, images: Pixels, broken: list[str]) -> Iterator[float]:
        """Decodes all pictures into the array, and lists those that cannot be read; yields the share that is done."""
        # Pillow only warns of a picture that is far larger than its file; the size is judged in `_decoded`.
        with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Threads suffice: Pillow decodes and resizes without holding Python's lock.
            for number, pixels in enumerate(pool.map(self._decoded, self.pictures)):
                if isinstance(pixels, str):
                    broken.append(pixels)
                else:
                    images[number] = pixels
                yield (number + 1) / len(self.pictures)

    def _decoded(self, path: Path) -> Pixels | str:
        """A picture as (C, H, W), or why it cannot be had."""
        try:
            with Image.open(path, formats=[SUFFIXES[path.suffix.lower()]]) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    return f"{path}: {picture.width}x{picture.height} are more than {_MOST_PIXELS:,} pixels"
                if picture.mode not in _READ:
                    return f"{path}: mode {picture.mode} has not 8 bits a channel"
                return _pixels(picture, self.settings)
        except Exception as error:  # Pillow raises whatever the bytes of a stranger lead it to
            return f"{path}: {error}"


def _pixels(picture: Image.Image, settings: Folder) -> Pixels:
    """The picture the right way up, in its channels, and fitted into the square."""
    size, mode = (settings.size, settings.size), _MODES[settings.channels]
    picture.draft(
        mode if mode == "L" else "RGB", (2 * settings.size, 2 * settings.size)
    )  # JPEG decodes smaller at once
    upright = ImageOps.exif_transpose(picture)
    if mode != "RGBA" and ("A" in upright.mode or "transparency" in upright.info):
        ground = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(ground, upright.convert("RGBA"))
    converted = upright.convert(mode)
    if settings.fit == "crop":
        fitted = ImageOps.fit(converted, size, Image.Resampling.LANCZOS)
    elif settings.fit == "pad":
        fitted = ImageOps.pad(converted, size, Image.Resampling.LANCZOS)
    else:
        fitted = converted.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
