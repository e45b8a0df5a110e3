"""Reading of pictures with more than 8 bits per channel, of which Pillow shows 8."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gancore.errors import DataError
from gancore.utils.files import without_warnings
from gancore_plugins.readers.picture import picture

if TYPE_CHECKING:
    from gancore_plugins.readers.picture_files import PictureFiles

_DEEP_MODES = {"I;16", "I;16B", "I;16L", "I;16N", "I"}
"""Pillow's modes of gray with more than 8 bits."""
_DEEP_RAW_MODES = {
    "LA;16B",
    *(f"{kind};16{order}" for kind in ("RGB", "RGBA", "RGBX") for order in ("", "B", "L", "N")),
}
"""Pillow's names for how colors, or gray with alpha, with 16 bits are stored."""
MOST = 65535
"""The largest value of 16 bits."""
Channel = tuple[NDArray[Any], NDArray[np.uint8] | None]  # Any: uint8, uint16 or float
"""A channel (H, W) in 0..65535: its upper and lower bytes, or its values alone."""


def is_deep(opened: Image.Image) -> bool:
    """Return whether a file has more than 8 bits per channel that can be read, of which Pillow may show 8."""
    if opened.mode in _DEEP_MODES:
        return True
    if opened.format == "PPM":
        return _netpbm_maximum(opened) > 255
    return _raw_mode(opened) in _DEEP_RAW_MODES


def any_is_deep(files: PictureFiles, most_pictures: int) -> bool:
    """Return whether any of up to `most_pictures` evenly spaced pictures has more than 8 bits per channel."""
    count = len(files.names)
    for number in {index * count // most_pictures for index in range(most_pictures)} if count else ():
        try:
            with without_warnings(), picture(files, files.names[number], verify=False) as opened:
                if is_deep(opened):
                    return True
        except DataError:
            continue  # decoding will report it
    return False


def channels_of(opened: Image.Image) -> list[Channel]:
    """Return the channels of a picture: gray or RGB, each with or without alpha."""
    if opened.mode in _DEEP_MODES:
        gray = np.asarray(opened)
        if opened.mode == "I" and (gray.min() < 0 or gray.max() > MOST):
            raise DataError("it has more than 16 bits per channel; save such images as an array, .npy")
        return [(gray, None)]
    if opened.format == "PPM" and is_deep(opened):
        return _netpbm_channels(opened)
    if not is_deep(opened):
        alpha = "A" in opened.mode or "a" in opened.mode or "transparency" in opened.info
        mode = "RGBA" if alpha else "L" if opened.mode in ("1", "L") else "RGB"
        values = np.asarray(opened if opened.mode == mode else opened.convert(mode))
        values = values[:, :, None] if values.ndim == 2 else values
        channels = [values[:, :, index] for index in range(values.shape[2])]
        return [(channel, channel) for channel in channels]  # 255 becomes 65535
    raw_mode = _raw_mode(opened)
    # Pillow keeps the upper byte of each value. With the other byte order it keeps the lower one.
    if raw_mode == "LA;16B":  # four bytes per pixel: the upper and the lower one of gray, then those of alpha
        bytes_ = _decoded_as(opened, "RGBA")
        return [(bytes_[:, :, 0], bytes_[:, :, 1]), (bytes_[:, :, 2], bytes_[:, :, 3])]
    kind, _, order = raw_mode.partition(";16")
    big = order == "B" or (order == "N" and sys.byteorder == "big")
    upper, lower = _decoded_as(opened, raw_mode), _decoded_as(opened, f"{kind};16{'L' if big else 'B'}")
    return [(upper[:, :, index], lower[:, :, index]) for index in range(upper.shape[2])]


def values_of(channel: Channel) -> NDArray[np.float32]:
    """Return the values (H, W) of a channel, in 0..65535."""
    first, lower = channel
    if lower is None:
        return first.astype(np.float32)
    values = np.multiply(first, np.float32(256), dtype=np.float32)
    values += lower
    return values


def _raw_mode(opened: Image.Image) -> str:
    """Return Pillow's name for how pixels are stored in the file, such as `RGB;16B`."""
    if not (tiles := getattr(opened, "tile", None)):
        return ""
    args = tiles[0][3]
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _netpbm_maximum(opened: Any) -> int:  # Any: tiles have no type
    """Return the value of white in a file of PGM or PPM."""
    args = opened.tile[0][3]
    if args == "I;16B":
        return MOST
    return int(args[-1]) if isinstance(args, tuple) else 255


def _decoded_as(opened: Any, raw_mode: str) -> NDArray[np.uint8]:  # Any: tiles have no type
    """Decode the file again, with its bytes read as another raw mode of Pillow."""
    opened.fp.seek(0)
    with Image.open(opened.fp, formats=[opened.format]) as again:
        tiles = []
        for tile in again.tile:
            args = (raw_mode, *tile[3][1:]) if isinstance(tile[3], tuple) else raw_mode
            tiles.append(tile._replace(args=args))
        again.tile = tiles
        return np.asarray(again)


def _netpbm_channels(opened: Any) -> list[Channel]:  # Any: as above
    """Return the channels of a picture of PPM with 16 bits, of which Pillow decodes 8."""
    width, height = opened.size
    size = 2 * 3 * width * height
    if opened.tile[0][0] == "ppm_plain":
        raise DataError("plain PPM with 16 bits is not read; save it as PNG")
    opened.fp.seek(opened.tile[0][2])
    content = opened.fp.read(size)
    if len(content) < size:
        raise DataError("the file ends before its pixels do")
    values = np.frombuffer(content, ">u2").reshape(height, width, 3)
    factor = np.float32(MOST / _netpbm_maximum(opened))
    return [(np.minimum(np.rint(values[:, :, index] * factor), MOST), None) for index in range(3)]
