"""The pictures of samples in the folder of a run: finding them, and reading them without trusting their content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from gancore.errors import DataError
from gancore.utils.files import regular, without_warnings

MOST_PIXELS = 50_000_000
"""Pixels of the largest picture that is read."""
_NAME = re.compile(r"step-(\d+)\.png")
_HINT = "move it out of the folder"


def pictures_among(folder: Path, names: Iterable[str]) -> list[tuple[int, Path]]:
    """Return steps and paths of the pictures of samples among the names of files in a folder, oldest first."""
    return sorted((int(found[1]), folder / name) for name in names if (found := _NAME.fullmatch(name)))


def open_picture(path: Path) -> Image.Image:
    """Return the picture in a file. Raise DataError when it is missing, damaged, no PNG or too large."""
    with _opened(path) as image:
        image.load()
        return image.copy()


def mode_and_size(path: Path) -> tuple[str, tuple[int, int]]:
    """Return mode, and width and height in pixels, of the picture in a file. Raise DataError as `open_picture` does."""
    with _opened(path) as image:
        mode, size = image.mode, image.size
        image.verify()  # checksums, without decoding
        return mode, size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture in the block. Raise DataError for errors in the block, and before any pixel is decoded."""
    too_large = DataError(f"{path} cannot be shown: it has more than {MOST_PIXELS:,} pixels", _HINT)
    try:
        with without_warnings(), regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise too_large
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except Image.DecompressionBombError as error:
        raise too_large from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} cannot be shown: {' '.join(str(error).split())}", _HINT) from error
