"""Pictures decoded to one size, in parallel, and cached as one memory-mapped array."""

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
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Dataset
from gancore.errors import DataError, StorageError
from gancore.utils.atomic import replacing
from gancore.utils.files import some
from gancore.utils.lock import exclusive
from gancore_plugins.readers.picture import MAX_PIXELS, picture, without_warnings
from gancore_plugins.readers.picture_files import PictureFiles

_DECODER_VERSION = 1
"""Part of a cache's name. Increase it when pictures are decoded differently, so that old caches are not used."""
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode of an image with this many channels."""
_READABLE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's modes with at most 8 bits per channel."""
_CHUNK = 256
"""Pictures that are decoded before they are written and progress is reported."""

Pixels = NDArray[np.uint8]
LONGEST_SIDE = 4096
"""The largest height and width of a decoded picture."""
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]


class PictureDataset(Dataset):
    """Fields of datasets of the user's pictures."""

    path: str = Field(description="where the pictures are")
    size: Side | tuple[Side, Side] = Field(
        default=64, description="height and width in pixels: a number for squares, or [height, width]"
    )
    channels: Literal[1, 3, 4] = Field(default=3, description="gray, color, or color with transparency")
    fit: Literal["crop", "pad", "stretch"] = Field(
        default="crop",
        description="how a picture of other proportions fits: crop the long side, pad the short side, or stretch",
    )
    bits: Literal[8, 16] | None = Field(
        default=None, description="bits per channel; absent: 16 if pictures have more than 8"
    )
    value_range: tuple[float, float] | None = Field(
        default=None,
        description="values that networks see as -1 and 1, for 16 bits; absent: the lowest and highest in the data",
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop", description="what unreadable pictures do: stop with a list of them, or be left out"
    )
    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, le=178_000_000, description="larger pictures are refused before they are decoded"
    )

    @field_validator("size", mode="before")
    @classmethod
    def _check_size(cls, size: object) -> object:
        sides = size if isinstance(size, list | tuple) else (size, size)
        if len(sides) != 2 or not all(type(side) is int and 1 <= side <= LONGEST_SIDE for side in sides):
            raise ValueError(f"must be a number of pixels from 1 to {LONGEST_SIDE}, or two: [height, width]")
        return sides[0] if sides[0] == sides[1] else tuple(sides)

    @model_validator(mode="after")
    def _check_value_range(self) -> Self:
        if self.value_range is not None:
            low, high = self.value_range
            if not -math.inf < low < high < math.inf:
                raise ValueError(f"value_range must be two finite numbers, the lower one first; received {low}, {high}")
            if self.bits == 8:
                raise ValueError("value_range is for pictures with 16 bits; with bits = 8 it is always 0..255")
        return self

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def format(self, channels: int, half: Literal["left", "right"] | None = None) -> PictureFormat:
        """Return how pictures are decoded, to this number of channels."""
        return PictureFormat(self.sides, channels, self.fit, self.max_pixels, half)


class Pictures(TorchDataset[Any]):  # Any: (image, label), or an image alone
    """Items (image, label), or images alone, of a memory-mapped array; an image is uint8 (C, H, W)."""

    def __init__(
        self, path: Path, labels: NDArray[np.int32] | None, classes: tuple[str, ...] | None, mirrors: bool
    ) -> None:
        self._images: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        self._path, self.labels, self.mirrors = path, labels, mirrors
        if classes is not None:
            self.classes = classes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path in place of the array, so that each worker of a data loader maps the file itself."""
        return Pictures, (self._path, self.labels, getattr(self, "classes", None), self.mirrors)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        image = torch.from_numpy(self._images[index].copy())
        return image if self.labels is None else (image, int(self.labels[index]))


@dataclass(frozen=True)
class PictureFormat:
    """How pictures are decoded: to `size`, height and width in pixels, with `channels` channels (1, 3 or 4)."""

    size: tuple[int, int]
    channels: int
    fit: Literal["crop", "pad", "stretch"]
    max_pixels: int
    """Larger pictures are refused before they are decoded."""
    half: Literal["left", "right"] | None = None
    """The half of each picture that is decoded; None: all of it."""


@dataclass(frozen=True)
class PictureCache:
    """Decoded pictures in one format: an array uint8 (N, C, H, W) in `path`."""

    files: PictureFiles
    form: PictureFormat
    path: Path

    @classmethod
    def in_folder(cls, folder: Path, files: PictureFiles, form: PictureFormat) -> PictureCache:
        """Return the cache in `folder` for these pictures; `build` creates its file.

        Its name is a digest of the format and of the identity of each picture. Raise DataError if a picture can no
        longer be read.
        """
        digest = hashlib.sha256(json.dumps([_DECODER_VERSION, form.size, form.channels, form.fit, form.half]).encode())
        for name in files.names:
            digest.update(files.identity(name))
        return cls(files, form, folder / f"{digest.hexdigest()[:24]}.npy")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.files.names), self.form.channels, *self.form.size

    def build(self) -> Iterator[float]:
        """Decode all pictures into the file, unless it is complete; yield the share that is done.

        Of several processes one decodes and the others wait. Raise DataError with the number of pictures that cannot
        be read and the first of them, StorageError if the file cannot be written. No partial file is left.
        """
        if self._is_made():
            return
        try:
            with exclusive(self.path):
                if not self._is_made():
                    yield from self._make()
        except OSError as error:
            raise StorageError(
                f"cannot write decoded pictures to {self.path.parent}: {error}", "use another folder: --data-dir FOLDER"
            ) from error

    def _is_made(self) -> bool:
        """Return whether the file holds an array of the right size; a truncated one is decoded again."""
        try:
            array: Pixels = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return array.shape == self.shape and array.dtype == np.uint8

    def _make(self) -> Iterator[float]:
        broken: list[str] = []
        # A disk that fills up while a memory-mapped file is written would kill the process, so check first.
        free, needed = shutil.disk_usage(self.path.parent).free, math.prod(self.shape)
        if free < needed:
            raise OSError(f"{needed:,} bytes are needed, and {free:,} are free")
        with replacing(self.path, exclusive=True) as temporary:
            images = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=self.shape)
            yield from self._fill(images, broken)
            images.flush()
            if broken:
                raise DataError(
                    f"{len(broken)} of {len(self.files.names)} pictures cannot be read: {some(broken)}",
                    "replace or remove them",
                )

    def _fill(self, images: Pixels, broken: list[str]) -> Iterator[float]:
        """Decode all pictures into `images`, append an error for each unreadable one; yield the share that is done."""
        # Threads suffice: Pillow releases the GIL while it decodes and resizes.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self.files.names), _CHUNK):
                with without_warnings():
                    chunk = list(pool.map(self._decode, self.files.names[start : start + _CHUNK]))
                for number, decoded in enumerate(chunk, start):
                    if isinstance(decoded, str):
                        broken.append(decoded)
                    else:
                        images[number] = decoded
                    yield (number + 1) / len(self.files.names)

    def _decode(self, name: str) -> Pixels | str:
        """Return a picture as (C, H, W), or the message of an error (an exception would keep the picture in memory)."""
        path = self.files.place / name
        try:
            with picture(self.files, name, self.form.max_pixels) as opened:
                if opened.mode not in _READABLE_MODES:
                    return f"{path}: mode {opened.mode} has more than 8 bits per channel"
                return _pixels(opened, self.form, path)
        except DataError as error:
            return error.message


_TRANSPOSITIONS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to transpose a picture with this EXIF orientation (EXIF 2.3, Orientation)."""


def _upright(opened: Image.Image) -> Image.Image:
    """Apply the EXIF orientation."""
    # ImageOps.exif_transpose also rewrites all other tags, and fails at one of a wrong type.
    try:
        transposition = _TRANSPOSITIONS.get(opened.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises many types for damaged tags; the pixels are still good
        transposition = None
    return opened if transposition is None else opened.transpose(transposition)


def _half(double: Image.Image, half: Literal["left", "right"], path: Path) -> Image.Image:
    """Return one of two pictures that are side by side. Raise DataError if the width is odd."""
    if double.width % 2:
        raise DataError(
            f"{path}: its width, {double.width} pixels, is odd, so it does not hold two pictures of one size"
        )
    middle = double.width // 2
    left, right = (0, middle) if half == "left" else (middle, double.width)
    return double.crop((left, 0, right, double.height))


def _pixels(opened: Image.Image, form: PictureFormat, path: Path) -> Pixels:
    """Return the upright picture with the channels and size of the format, (C, H, W); transparency becomes white.

    Raise DataError if a half is asked for and the width is odd.
    """
    (height, width), mode = form.size, _MODES[form.channels]
    size = (width, height)
    if form.half is None:  # JPEG: decode at a smaller size
        opened.draft(mode if mode == "L" else "RGB", (2 * max(size), 2 * max(size)))
    upright = _upright(opened)
    if form.half is not None:
        upright = _half(upright, form.half, path)
    if mode != "RGBA" and ("A" in upright.mode or "transparency" in upright.info):
        background = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(background, upright.convert("RGBA"))
    converted = upright.convert(mode)
    if form.fit == "crop":
        fitted = ImageOps.fit(converted, size, Image.Resampling.LANCZOS)
    elif form.fit == "pad":
        fitted = ImageOps.pad(converted, size, Image.Resampling.LANCZOS)
    else:
        fitted = converted.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
