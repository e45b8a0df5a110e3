"""Reading untrusted files: only regular files are opened, and a picture's header is checked before it is decoded."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gancore.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
"""Suffixes of pictures, and the only format that each is opened as."""
MOST_PIXELS = 4096 * 4096
"""Default limit of the pixels of a picture."""
_NAMED = 3
"""Number of problems that an error lists."""


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading in the block. Raises OSError when it cannot be opened or is not a regular file."""
    # Not blocking: to open a pipe would wait for its writer. Checked after opening: the path may change before.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        yield file


def pictures_below(folder: Path) -> list[str]:
    """Return the relative paths of all pictures below a folder, recognized by their suffixes, sorted as `Path`s are.

    Links to files are followed, links to folders are not. Raises DataError when a folder cannot be read, when there is
    no picture, and when something with the suffix of a picture is not a file.
    """
    found, special, pending = list[str](), list[Path](), [""]
    try:
        while pending:  # `os.walk` calls itself, so it fails in deep folders
            parent = pending.pop()
            with os.scandir(folder / parent) as entries:
                for entry in entries:
                    if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                        if os.path.isfile(entry):
                            found.append(parent + entry.name)
                        else:
                            special.append(Path(entry))
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(f"{parent}{entry.name}/")
    except OSError as error:
        raise DataError(
            f"cannot read folder {error.filename or folder}: {error.strerror}",
            "check that the folder exists and is readable, or name another",
        ) from error
    if special:
        raise DataError(
            f"paths named like pictures must be files; in {folder} {len(special)} "
            f"{'is' if len(special) == 1 else 'are'} not: "
            f"{some([f'{path}, {_kind(path)}' for path in sorted(special)])}",
            "remove or rename them",
        )
    if not found:
        raise DataError(f"no pictures in {folder}: no file ends in {', '.join(SUFFIXES)}", "name another folder")
    return sorted(found, key=lambda name: name.replace("/", "\0"))


@contextmanager
def picture(path: Path, most_pixels: int = MOST_PIXELS) -> Iterator[Image]:
    """Open a picture in the block, after a check of its header. Only the block decodes its pixels.

    It is opened only as the format of its suffix. Raises DataError, which names the file, when it is damaged, declares
    more than `most_pixels`, or is larger than that number of pixels uncompressed; also when the block fails. See
    `without_warnings` for the warnings of Pillow.
    """
    from PIL import Image, UnidentifiedImageError

    format_name = SUFFIXES[path.suffix.lower()]
    try:
        with regular(path) as file:
            size, most = os.fstat(file.fileno()).st_size, 4 * most_pixels + (1 << 20)
            if size > most:
                raise DataError(f"{path} has {size:,} bytes, more than the {most:,} of a picture", "make it smaller")
            with Image.open(file, formats=[format_name]) as opened:
                if (pixels := opened.width * opened.height) > most_pixels:
                    raise DataError(
                        f"{path} declares {opened.width}x{opened.height}, {pixels / 1e6:,.1f} MP; "
                        f"the most is {most_pixels:,} pixels",
                        "make it smaller, or remove it",
                    )
                if format_name != "PNG":
                    yield opened
                    return
                opened.verify()  # checks the checksums, which decoding does not; the picture cannot be used after it
            file.seek(0)
            with Image.open(file, formats=[format_name]) as opened:
                yield opened
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} has the suffix of a {format_name} file, but not its content",
            "rename it if it is a picture of another format, or remove it",
        ) from error
    except Exception as error:  # Pillow raises any exception for damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot read picture {path}: {reason}", "replace or remove it") from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore warnings in the block, such as those of Pillow about damaged files, also where warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def some(problems: list[str]) -> str:
    """Return the first few of a list as text, and how many more there are."""
    more = f", and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return "; ".join(problems[:_NAMED]) + more


def _kind(path: Path) -> str:
    if path.is_symlink() and not os.path.exists(path):
        return "a broken link"
    return "a folder" if path.is_dir() else "a pipe" if path.is_fifo() else "not a regular file"
