"""Images from other programs: folders of pictures, and arrays in .npy files.

Pickles are never loaded, and the size that a file declares is checked before memory is allocated.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gancore.contracts import Shape
from gancore.errors import DataError, describe_error
from gancore.utils.files import SUFFIXES, picture, pictures_below, regular, without_warnings

_MODES = {"1": "L", "L": "L", "LA": "RGBA", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}
"""The supported Pillow modes, and the mode that each is converted to."""
_CHANNELS = (1, 3, 4)
_CHECK_WRITER = "check the program that wrote the file"
_HOW_TO_CONVERT = "scale to 0..255 and convert: np.uint8(np.clip(np.rint(images), 0, 255))"


def read_images(path: Path | str, shape: Shape | None = None) -> Tensor:
    """Return the pictures below a folder, sorted by path, or the array of a .npy file.

    Images are uint8 (N, C, H, W), vectors float32 (N, F). If the expected `shape` has one channel, RGB images in which
    all channels are equal are read as gray. Raises DataError for a folder or array without images, for mixed sizes,
    for another type than uint8, and for damaged files.
    """
    path = Path(path)
    gray = shape is not None and len(shape) == 3 and shape[0] == 1
    images = _array(path, gray) if path.is_file() else _pictures(path, gray)
    if len(images) == 0:
        raise DataError(f"there must be at least one image to measure; {path} holds none", "choose another")
    return images


def read_conditions(path: Path, shape: Shape) -> Tensor:
    """Return the conditions (N, *shape) to sample with, uint8 or float32: of a .npy file, a picture or a folder.

    A .npy file holds one condition, or one per sample. Raises DataError for other files, types and shapes.
    """
    gray = len(shape) == 3 and shape[0] == 1
    if path.suffix.lower() == ".npy":
        array = _open_array(path)
        if array.dtype not in (np.uint8, np.float32, np.float64):
            raise DataError(f"conditions must be uint8 or float32; {path} holds {array.dtype}", "convert them")
        with np.errstate(over="ignore"):
            given = torch.from_numpy(_copy(array, path, np.uint8 if array.dtype == np.uint8 else np.float32))
        given = given.unsqueeze(0) if given.shape == shape else given
    elif path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"conditions are in a .npy file or in pictures ({', '.join(SUFFIXES)}); received {path}",
                "save a tensor with numpy.save(FILE, conditions.numpy())",
            )
        given = torch.from_numpy(_decode(path, gray)).permute(2, 0, 1).unsqueeze(0)
    else:
        given = _pictures(path, gray)
    if given.shape[1:] != shape or not len(given):
        received = "x".join(map(str, given.shape[1:])) if len(given) else "no pictures"
        raise DataError(
            f"conditions must have shape {'x'.join(map(str, shape))}; {path} holds {received}", "resize them"
        )
    return given


def _pictures(folder: Path, gray: bool) -> Tensor:
    if not folder.is_dir():
        raise DataError(f"there is no folder or file {folder}", "pass a folder of pictures, or a .npy file")
    paths = [folder / name for name in pictures_below(folder)]
    images, first = torch.empty(0), (0, 0, 0)
    for number, path in enumerate(paths):
        pixels = _decode(path, gray)
        if number == 0:
            first = pixels.shape
            try:
                images = torch.empty(len(paths), first[2], *first[:2], dtype=torch.uint8)
            except RuntimeError as error:
                raise DataError(
                    f"{len(paths):,} pictures of {_describe(first)}, like {path}, do not fit into memory",
                    "measure fewer or smaller pictures",
                ) from error
        if pixels.shape != first:
            raise DataError(
                f"all images must have the same size and number of channels; {paths[0]} is {_describe(first)}, "
                f"{path} is {_describe(pixels.shape)}",
                "resize or convert them",
            )
        images[number] = torch.from_numpy(pixels).permute(2, 0, 1)
    return images


def _decode(path: Path, gray: bool) -> NDArray[np.uint8]:
    """Return a picture as (H, W, C). Keep an alpha channel only if some pixel is not opaque."""
    with without_warnings(), picture(path) as opened:
        if opened.mode not in _MODES:
            raise DataError(
                f"pictures must be gray or color with 8 bits per channel; {path} has mode {opened.mode}", "convert it"
            )
        pixels = np.asarray(opened.convert(_MODES[opened.mode]))
    pixels = np.array(pixels if pixels.ndim == 3 else pixels[:, :, None])
    if pixels.shape[2] == 4 and (pixels[:, :, 3] == 255).all():
        pixels = pixels[:, :, :3]
    return pixels[:, :, :1] if gray and pixels.shape[2] == 3 and (pixels == pixels[:, :, :1]).all() else pixels


def _array(path: Path, gray: bool) -> Tensor:
    array = _open_array(path)
    received = f"{path} holds {array.dtype} of shape {array.shape}"
    if array.dtype in (np.float32, np.float64) and array.ndim == 2:
        with np.errstate(over="ignore"):
            vectors = torch.from_numpy(_copy(array, path, np.float32))
        if not (finite := vectors.isfinite().all(dim=1)).all():
            number = int((~finite).nonzero()[0])
            raise DataError(f"vectors must be finite; number {number} in {path} is not", _CHECK_WRITER)
        return vectors
    if array.dtype != np.uint8:
        raise DataError(f"images must be uint8 in 0..255, or vectors float32 (N, F); {received}", _HOW_TO_CONVERT)
    if array.ndim not in (3, 4):
        raise DataError(f"images must be (N, C, H, W), (N, H, W, C) or (N, H, W); {received}", "reshape them")
    if 0 in array.shape[1:]:
        raise DataError(f"an image must have at least one pixel; {received}", _CHECK_WRITER)
    images = torch.from_numpy(_copy(array, path, np.uint8))
    if images.ndim == 3:
        return images.unsqueeze(1)
    channels_last = images.shape[3] in _CHANNELS and images.shape[1] not in _CHANNELS
    images = images.permute(0, 3, 1, 2).contiguous() if channels_last else images
    return images[:, :1] if gray and images.shape[1] == 3 and (images == images[:, :1]).all() else images


def _open_array(path: Path) -> NDArray[np.generic]:
    """Return the array of a .npy file, memory-mapped. Pickles are never read, since that could execute code."""
    try:
        with regular(path) as file:
            magic = file.read(len(np.lib.format.MAGIC_PREFIX))
            size = os.fstat(file.fileno()).st_size
        if magic.startswith(b"PK"):
            raise ValueError("it is an archive of arrays, not a single array")
        if magic != np.lib.format.MAGIC_PREFIX:
            raise ValueError(f"it begins with {magic.hex(' ') or 'nothing'} instead of 93 4e 55 4d 50 59")
        with without_warnings():
            array: np.memmap[tuple[int, ...], np.dtype[np.generic]] = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.size and array.offset + array.nbytes != size:
            raise ValueError(f"{size - array.offset - array.nbytes:,} bytes follow the array")
        return array
    except Exception as error:  # numpy parses the header as a Python literal, which can raise almost anything
        raise DataError(
            f"{path} cannot be read as an array: {describe_error(error)}", "write it with numpy.save"
        ) from error


def _copy(array: NDArray[np.generic], path: Path, kind: type[np.generic]) -> NDArray[np.generic]:
    try:
        return np.array(array, dtype=kind)
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: {error}", "measure fewer images") from error


def _describe(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
