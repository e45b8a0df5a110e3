"""Decoding of one picture to one size and number of channels, with 8 or 16 bits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from gancore.errors import DataError
from gancore_plugins.datasets.deep import MOST, Channel, channels_of, is_deep, values_of
from gancore_plugins.readers.picture import picture

if TYPE_CHECKING:
    from gancore_plugins.readers.picture_files import PictureFiles

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode of an image with this many channels."""
_READABLE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
"""Pillow's modes with at most 8 bits per channel that it converts to those above."""
_GRAY = (0.299, 0.587, 0.114)
"""Share of red, green and blue in gray, ITU-R BT.601, as in Pillow."""
_BAND_PIXELS = 1 << 22
"""Pixels of a large picture with transparency that are placed on white at one time."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Half = Literal["left", "right"]


@dataclass(frozen=True)
class PictureFormat:
    """How pictures are decoded: to `size`, height and width in pixels, with `channels` channels (1, 3 or 4)."""

    size: tuple[int, int]
    channels: int
    fit: Literal["crop", "pad", "stretch"]
    max_pixels: int
    """Larger pictures are refused before they are decoded."""
    half: Half | None = None
    """The half of each picture that is decoded; None: all of it."""
    bits: Literal[8, 16] = 8
    """Bits per channel of the result."""

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint16 if self.bits == 16 else np.uint8


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded picture (C, H, W), and what its file was: format, width and height before, and two facts."""

    pixels: Pixels
    file_format: str
    size: tuple[int, int]
    transparent: bool  # some pixel is not opaque
    deep: bool  # more than 8 bits per channel


def decode(files: PictureFiles, name: str, form: PictureFormat, most_pixels: int | None = None) -> Decoded | str | None:
    """Return a decoded picture, or a sentence on why it cannot be read, with its name.

    Return None if more than `most_pixels` would be decoded. An exception would keep the picture in memory.
    """
    try:
        with picture(files, name, form.max_pixels) as opened:
            (width, height), deep = opened.size, is_deep(opened)
            if not deep and opened.mode not in _READABLE_MODES:
                raise DataError(_unreadable_mode(opened))
            if form.half is None and not deep:  # JPEG: decode at a smaller size
                side = 2 * max(form.size)
                opened.draft("L" if form.channels == 1 else "RGB", (side, side))
            if most_pixels is not None and opened.width * opened.height > most_pixels:
                return None
            pixels, transparent = (_deep_pixels if deep or form.bits == 16 else _pixels)(opened, form)
            size = (height, width) if _transposition(opened) in _SWAPS_SIDES else (width, height)
            return Decoded(pixels, _shown_format(opened), size, transparent, deep)
    except DataError as error:
        message = error.message.removeprefix("cannot read picture ").replace(os.path.join(files.place, ""), "")
        message = message if name in message else f"{name}: {message}"
        return f"{message} ({error.hint})" if "--set" in error.hint or "pip " in error.hint else message


def _shown_format(opened: Image.Image) -> str:
    return "JPEG" if opened.format == "MPO" else opened.format or "unknown"  # MPO: a JPEG with several pictures in it


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
_SWAPS_SIDES = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}


def _transposition(opened: Image.Image) -> Image.Transpose | None:
    """Return how to apply the EXIF orientation. This decodes a PNG, whose metadata may follow the pixels."""
    if opened.format == "TIFF":  # Pillow turns these itself when it decodes them, and their size is the upright one
        return None
    # ImageOps.exif_transpose also rewrites all other tags, and fails at one of a wrong type.
    try:
        return _TRANSPOSITIONS.get(opened.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises many types for damaged tags; the pixels are still good
        return None


def upright_size(opened: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened picture as it is shown; of a PNG as stored, since its pixels come first."""
    width, height = opened.size
    return (height, width) if opened.format != "PNG" and _transposition(opened) in _SWAPS_SIDES else (width, height)


def _part(opened: Image.Image, transposition: Image.Transpose | None, half: Half | None) -> Image.Image:
    """Return a picture upright, or one half of it. Raise DataError if it has two halves and the width is odd."""
    upright = opened if transposition is None else opened.transpose(transposition)
    if half is None:
        return upright
    if upright.width % 2:
        raise DataError(f"its width, {upright.width} pixels, is odd, so it does not hold two pictures of one size")
    middle = upright.width // 2
    left, right = (0, middle) if half == "left" else (middle, upright.width)
    return upright.crop((left, 0, right, upright.height))


def _fitted(picture: Image.Image, form: PictureFormat, fill: int | str = 0) -> Image.Image:
    """Return a picture of any mode in the size of the format; `fill` is the color that pads it."""
    size = form.size[1], form.size[0]
    if form.fit == "crop":
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    if form.fit == "pad":
        return ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=fill)
    return picture.resize(size, Image.Resampling.LANCZOS)


def _pixels(opened: Image.Image, form: PictureFormat) -> tuple[Pixels, bool]:
    """Return the pixels (C, H, W) of a picture with 8 bits, and whether it has transparency, which becomes white."""
    mode, transparent = _MODES[form.channels], False
    upright = _part(opened, _transposition(opened), form.half)
    if "A" in upright.mode or "a" in upright.mode or "transparency" in upright.info:
        converted, transparent = _on_white(upright, mode) if mode != "RGBA" else _with_alpha(upright)
    else:
        # `convert` copies a picture that already has the mode.
        converted = upright if upright.mode == mode else upright.convert(mode)
    pixels = np.asarray(_fitted(converted, form, "white" if transparent and mode != "RGBA" else 0))
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)), transparent


def _with_alpha(picture: Image.Image) -> tuple[Image.Image, bool]:
    converted = picture.convert("RGBA")
    return converted, _lowest(converted.getchannel("A")) < 255


def _on_white(picture: Image.Image, mode: str) -> tuple[Image.Image, bool]:
    """Place a picture on white, a few rows at a time, so that a large one is not in memory four times."""
    placed, transparent = Image.new(mode, picture.size), False
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        whole = rows >= picture.height
        band = picture if whole else picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        colors = band.convert("RGBA")
        transparent = transparent or _lowest(colors.getchannel("A")) < 255
        background = Image.new("RGBA", colors.size, "white")
        placed.paste(Image.alpha_composite(background, colors).convert(mode), (0, top))
    return placed, transparent


def _lowest(channel: Image.Image) -> float:
    lowest = channel.getextrema()[0]
    return lowest if isinstance(lowest, int | float) else lowest[0]


def _unreadable_mode(opened: Image.Image) -> str:
    if opened.mode == "F":
        return "its values are float32, which pictures are not; save such images as an array, .npy"
    return f"its colors, mode {opened.mode} of Pillow, cannot be converted; save it as RGB"


def _deep_pixels(opened: Image.Image, form: PictureFormat) -> tuple[Pixels, bool]:
    """Return the pixels (C, H, W) in the bits of the format, at least one of the two with 16 bits; see `_pixels`.

    Each channel is resized as float32, which holds 16 bits exactly, one after the other.
    """
    channels = channels_of(opened)
    transposition = _transposition(opened)
    alpha = values_of(channels.pop()) if len(channels) in (2, 4) else None
    transparent = alpha is not None and bool(alpha.min() < MOST)
    white = 0 if form.channels == 4 else MOST  # colors are weighed with alpha while they are resized

    def color(channel: Channel) -> NDArray[np.float32]:
        values = values_of(channel)
        if alpha is not None and transparent:
            values -= white
            values *= alpha
            values /= MOST
            values += white
        return values

    def fitted(values: NDArray[np.float32], fill: int = 0) -> NDArray[np.float32]:
        return np.asarray(_fitted(_part(Image.fromarray(values), transposition, form.half), form, fill))

    planes = [fitted(color(channel), white if transparent else 0) for channel in channels]
    if form.channels == 1 and len(planes) == 3:
        planes = [sum((share * plane for share, plane in zip(_GRAY, planes, strict=True)), np.zeros_like(planes[0]))]
    elif form.channels > 1 and len(planes) == 1:
        planes *= 3
    values = np.stack(planes)
    if form.channels == 4:
        opacity = fitted(np.full(channels[0][0].shape, MOST, np.float32) if alpha is None else alpha)
        if transparent:
            values *= MOST / np.maximum(opacity, 1)
        values = np.concatenate([values, opacity[None]])
    scale = 1 if form.bits == 16 else 255 / MOST
    rounded = np.clip(np.rint(values * np.float32(scale)), 0, np.iinfo(form.dtype).max)
    return rounded.astype(np.uint16) if form.bits == 16 else rounded.astype(np.uint8), transparent
