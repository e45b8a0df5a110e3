"""Pictures decoded to one size, in parallel, and kept as one array that is read where it lies."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.errors import DataError, StorageError
from gancore.utils.files import Paths, alone, picture, some, without_warnings
from gancore_plugins.datasets.folder import Folder

_EDITION = 1
"""Of how pictures are decoded; a change makes all that was kept before a matter of the past."""
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_READ = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's modes of pictures with 8 bits a channel."""
_CHUNK = 256
"""Pictures that are decoded before what is made of them is written, and is asked whether to go on."""

Pixels = NDArray[np.uint8]


class Pictures(TorchDataset[Any]):  # Any: (image, label), or an image alone
    """Images uint8 (C, H, W) of an array in a file, which need not fit into memory, perhaps with labels."""

    def __init__(
        self, path: Path, labels: NDArray[np.int32] | None, classes: tuple[str, ...] | None, mirrors: bool
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
        return image if self._labels is None else (image, int(self._labels[index]))


@dataclass(frozen=True)
class Kept:
    """The array of all pictures of a folder in one form, made or still to be made."""

    settings: Folder
    pictures: Paths
    path: Path

    @classmethod
    def of(cls, settings: Folder, pictures: Paths, root: Path) -> Kept:
        """Where it lies: named by all that has a say in its pixels, sizes and times of change of files included."""
        form = [_EDITION, settings.size, settings.channels, settings.fit]
        digest = hashlib.sha256(f"[{json.dumps(form)}, [".encode())
        folder, comma = str(pictures.folder.absolute()), ""
        try:
            for name in pictures.names():  # told one by one: a list of them all would outgrow the index
                path = os.path.join(folder, name)
                seen = os.stat(path)
                told = comma + json.dumps([path, seen.st_size, seen.st_mtime_ns])
                digest.update(told.encode())
                comma = ", "
        except OSError as error:
            raise DataError(
                f"{error.filename} was there and can be read no more: {error.strerror}", "leave the folder as it is"
            ) from error
        digest.update(b"]]")
        return cls(settings, pictures, root / "folders" / f"{digest.hexdigest()[:24]}.npy")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.pictures), self.settings.channels, self.settings.size, self.settings.size

    def make(self) -> Iterator[float]:
        """Decodes all pictures, unless that was done before; yields the share that is done.

        Of several processes one does it, while the others wait. Raises DataError with the first of those that cannot
        be read, and their number, StorageError where the array cannot be kept. Nothing is left half made.
        """
        if self._is_made():
            return
        try:
            with alone(self.path):
                if not self._is_made():
                    yield from self._make()
        except OSError as error:
            raise StorageError(
                f"decoded pictures cannot be kept in {self.path.parent}: {error}", "name another folder with --data-dir"
            ) from error

    def _is_made(self) -> bool:
        """Whether the array is there, as long as it must be. One that was cut off is made anew."""
        try:
            array: Pixels = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return array.shape == self.shape and array.dtype == np.uint8

    def _make(self) -> Iterator[float]:
        broken: list[str] = []
        # The array is written through memory, where a disk that runs full would end the process.
        free, needed = shutil.disk_usage(self.path.parent).free, math.prod(self.shape)
        if free < needed:
            raise OSError(f"{needed:,} bytes are needed, and {free:,} are free")
        part = self.path.with_name(f".{self.path.name}.part")  # always the same, so that one that was left is replaced
        try:
            images = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=self.shape)
            yield from self._fill(images, broken)
            images.flush()
            if not broken:
                os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)
        if broken:
            raise DataError(
                f"{len(broken)} of {len(self.pictures)} pictures cannot be read: {some(broken)}",
                "replace them, or take them away",
            )

    def _fill(self, images: Pixels, broken: list[str]) -> Iterator[float]:
        """Decodes all pictures into the array, and lists those that cannot be read; yields the share that is done."""
        # Threads suffice: Pillow decodes and resizes without holding Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self.pictures), _CHUNK):
                numbers = range(start, min(start + _CHUNK, len(self.pictures)))
                with without_warnings():
                    chunk = list(pool.map(self._decoded, map(self.pictures.__getitem__, numbers)))
                for number, pixels in enumerate(chunk, start):
                    if isinstance(pixels, str):
                        broken.append(pixels)
                    else:
                        images[number] = pixels
                    yield (number + 1) / len(self.pictures)

    def _decoded(self, path: Path) -> Pixels | str:
        """A picture as (C, H, W), or why it cannot be had."""
        try:
            with picture(path, self.settings.max_pixels) as opened:
                if opened.mode not in _READ:
                    return f"{path}: mode {opened.mode} has not 8 bits a channel"
                return _pixels(opened, self.settings)
        except DataError as error:
            return error.message


_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts a picture right whose camera was held so: EXIF 2.3, Orientation."""


def _upright(opened: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also writes all other tags anew, and fails at one of an odd type.
    try:
        turn = _TURNS.get(opened.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises whatever the bytes lead it to; what they damage is no pixel
        turn = None
    return opened if turn is None else opened.transpose(turn)


def _pixels(opened: Image.Image, settings: Folder) -> Pixels:
    """The picture the right way up, in its channels, and fitted into the square."""
    size, mode = (settings.size, settings.size), _MODES[settings.channels]
    opened.draft(mode if mode == "L" else "RGB", (2 * settings.size, 2 * settings.size))  # JPEG decodes smaller at once
    upright = _upright(opened)
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
