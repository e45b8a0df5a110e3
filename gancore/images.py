"""Images from other programs: folders of pictures, and arrays in .npy files. All of it is data, and bounded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancore.contracts import Shape
from gancore.errors import DataError

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
_MODES = {"1": "L", "L": "L", "LA": "RGBA", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}
"""Pillow's modes that are understood, and those that they are read as."""
_MOST_PIXELS = 4096 * 4096
_CHANNELS = (1, 3, 4)
_AS_BYTES = "scale to 0..255 and convert: np.uint8(np.clip(np.rint(images), 0, 255))"


def read_images(path: Path, shape: Shape | None = None) -> Tensor:
    """The pictures below a folder, in the order of their paths, or the array of a .npy file, as they are stored.

    Images are uint8 (N, C, H, W), vectors float32 (N, F). Where `shape` says that one channel is wanted, grey pictures
    that were written as RGB are taken for what they are. Raises DataError when there are none, and for images of mixed
    sizes, of another type than uint8, and damaged ones.
    """
    grey = shape is not None and len(shape) == 3 and shape[0] == 1
    images = _array(path, grey) if path.is_file() else _pictures(path, grey)
    if len(images) == 0:
        raise DataError(f"there must be at least one image to measure; {path} holds none", "name another")
    return images


def _pictures(folder: Path, grey: bool) -> Tensor:
    if not folder.is_dir():
        raise DataError(f"there is no folder or file {folder}", "name a folder of pictures, or a .npy file")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not paths:
        raise DataError(
            f"a folder of images must hold some, ending in {', '.join(_SUFFIXES)}; {folder} holds none", "name another"
        )
    images = torch.empty(0)
    for number, pixels in enumerate(_decoded(paths, grey)):
        height, width, channels = pixels.shape
        if number == 0:
            images = torch.empty(len(paths), channels, height, width, dtype=torch.uint8)
        if images.shape[1:] != (channels, height, width):
            first = (images.shape[2], images.shape[3], images.shape[1])
            raise DataError(
                f"all images must have one size and one kind of colour; {paths[0]} is {_shown(first)}, and "
                f"{paths[number]} is {_shown(pixels.shape)}",
                "resize or convert them",
            )
        images[number] = torch.from_numpy(pixels).permute(2, 0, 1)
    return images


def _decoded(paths: list[Path], grey: bool) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Each picture as (H, W, C), an alpha channel only where something shines through."""
    for path in paths:
        try:
            # Pillow only warns of a picture that is far larger than its file; the size is judged here.
            with warnings.catch_warnings(), Image.open(path, formats=[_SUFFIXES[path.suffix.lower()]]) as picture:
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                _check_form(picture, path)
                pixels = np.asarray(picture.convert(_MODES[picture.mode]))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path} cannot be read as a picture: {error}", "replace it, or take it away") from error
        pixels = np.array(pixels if pixels.ndim == 3 else pixels[:, :, None])
        if pixels.shape[2] == 4 and (pixels[:, :, 3] == 255).all():
            pixels = pixels[:, :, :3]
        yield pixels[:, :, :1] if grey and pixels.shape[2] == 3 and (pixels == pixels[:, :, :1]).all() else pixels


def _check_form(picture: Image.Image, path: Path) -> None:
    if picture.width * picture.height > _MOST_PIXELS:
        raise DataError(
            f"a picture has at most {_MOST_PIXELS:,} pixels; {path} declares {picture.width}x{picture.height}"
        )
    if picture.mode not in _MODES:
        raise DataError(
            f"pictures are grey or colour with 8 bits a channel; {path} has mode {picture.mode}", "convert it"
        )


def _array(path: Path, grey: bool) -> Tensor:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise DataError(f"{path} cannot be read as an array: {error}", "write it with numpy.save") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"one array is wanted, and {path} is an archive of several", "write it with numpy.save")
    received = f"{path} holds {array.dtype} of shape {array.shape}"
    if array.dtype in (np.float32, np.float64) and array.ndim == 2:
        vectors = torch.from_numpy(np.array(array, dtype=np.float32))
        if not vectors.isfinite().all():
            raise DataError(f"vectors must be finite; some in {path} are not", "look at what wrote them")
        return vectors
    if array.dtype != np.uint8:
        raise DataError(f"images must be uint8 in 0..255, or vectors float32 (N, F); {received}", _AS_BYTES)
    if array.ndim == 3:
        return torch.from_numpy(np.array(array)).unsqueeze(1)
    if array.ndim != 4:
        raise DataError(f"images must be (N, C, H, W), (N, H, W, C) or (N, H, W); {received}", "reshape them")
    images = torch.from_numpy(np.array(array))
    last = images.shape[3] in _CHANNELS and images.shape[1] not in _CHANNELS
    images = images.permute(0, 3, 1, 2).contiguous() if last else images
    return images[:, :1] if grey and images.shape[1] == 3 and (images == images[:, :1]).all() else images


def _shown(form: tuple[int, ...]) -> str:
    height, width, channels = form
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
