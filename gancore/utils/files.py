"""Files of strangers: opened, found and judged in one way, whoever reads them.

What is opened is a regular file, so that nothing waits for the writer of a pipe; a picture is judged by its header
before a pixel of it is decoded; and what several processes would make at once is made by one.
"""

from __future__ import annotations

import os
import stat
import warnings
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gancore.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
"""Endings of pictures, and the only format that each is opened as."""
MOST_PIXELS = 4096 * 4096
"""Of a picture, unless its reader says otherwise."""
_TOLD = 3
"""Offenders that an error names."""


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """The file, open to be read. Raises OSError when it cannot be opened, or is a pipe, a device or a folder."""
    # Without waiting: opening a pipe would wait for its writer, and what was asked of its name may be true no more.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        yield file


class Paths:
    """Files below a folder by their names, which lie in one run of bytes: a million take no object each.

    A process that is forked shares them, and copies none by looking.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names, self._ends = bytearray(), array("q")

    def append(self, name: str) -> None:
        """Adds a file by its name from the folder on, as `below/it.png`."""
        self._names += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._names))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> Path:
        """The path of a file, whose number is not negative."""
        begin = self._ends[number - 1] if number else 0
        return Path(self.folder, self._names[begin : self._ends[number]].decode("utf-8", "surrogatepass"))

    def __iter__(self) -> Iterator[Path]:
        return (Path(self.folder, name) for name in self.names())

    def names(self) -> Iterator[str]:
        """All names as they were added."""
        begin = 0
        for end in self._ends:
            yield self._names[begin:end].decode("utf-8", "surrogatepass")
            begin = end


def pictures_below(folder: Path) -> Paths:
    """All pictures in a folder and the folders in it, known by their endings, in the order of their paths.

    Links to files are followed, links to folders are not. Raises DataError when it cannot be looked into, when it
    holds no picture, and when something that ends like one is no file.
    """
    found, odd = Paths(folder), list[Path]()
    try:
        pending = [("", *_content(os.fspath(folder), odd))]
        while pending:
            above, names, folders = pending[-1]
            for name in names:
                if name in folders:  # at its place among the names, so that no more than one folder is ever sorted
                    pending.append((f"{above}{name}/", *_content(os.path.join(folder, above, name), odd)))
                    break
                found.append(above + name)
            else:
                pending.pop()
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be looked into: {error.strerror}", "mend the folder, or name another"
        ) from error
    if odd:
        raise DataError(
            f"what ends like a picture must be a file; in {folder} {len(odd)} {'is' if len(odd) == 1 else 'are'} not: "
            f"{some([f'{path}, {_what(path)}' for path in sorted(odd)])}",
            "take them away",
        )
    if not found:
        raise DataError(
            f"a folder of pictures must hold some, ending in {', '.join(SUFFIXES)}; {folder} holds none", "name another"
        )
    return found


@contextmanager
def picture(path: Path, most_pixels: int = MOST_PIXELS) -> Iterator[Image]:
    """A picture that was judged by its header, and is decoded only by what is done with it in the block.

    It is opened as the format of its ending alone. Raises DataError, which names it, when it is damaged, declares more
    pixels than that, or takes more bytes than they would unpacked; also when the block fails. Where others might see
    Pillow's warnings, work in `without_warnings`.
    """
    from PIL import Image, UnidentifiedImageError

    form = SUFFIXES[path.suffix.lower()]
    try:
        with regular(path) as file:
            size, most = os.fstat(file.fileno()).st_size, 4 * most_pixels + (1 << 20)
            if size > most:
                raise DataError(f"{path} takes {size:,} bytes, and a picture takes at most {most:,}", "make it smaller")
            with Image.open(file, formats=[form]) as opened:
                _judge(opened, path, most_pixels)
                if form != "PNG":
                    yield opened
                    return
                opened.verify()  # the checksums, which decoding leaves out; the picture is of no use after it
            file.seek(0)
            with Image.open(file, formats=[form]) as opened:
                yield opened
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} ends like a {form}, and does not begin like one",
            "rename it if it is a picture of another format, or take it away",
        ) from error
    except Exception as error:  # Pillow raises whatever the bytes of a stranger lead it to
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} cannot be read as a picture: {reason}", "replace it, or take it away") from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """What libraries find odd in the files of strangers is not told; nor does it stop a program that asks for that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def some(offenders: list[str]) -> str:
    """The first few of a list, and how many more there are."""
    more = f", and {len(offenders) - _TOLD} more" if len(offenders) > _TOLD else ""
    return "; ".join(offenders[:_TOLD]) + more


def _content(folder: str, odd: list[Path]) -> tuple[Iterator[str], set[str]]:
    """The names of pictures and folders in a folder, in order, and which of them are folders; adds what is odd."""
    names, folders = list[str](), set[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                # The entry knows what it is, and asks the disk about links alone; then it would raise for a circle.
                if os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file():
                    names.append(entry.name)
                else:
                    odd.append(Path(entry.path))
            elif entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
                folders.add(entry.name)
    return iter(sorted(names)), folders


def _judge(opened: Image, path: Path, most_pixels: int) -> None:
    if opened.width * opened.height > most_pixels:
        raise DataError(
            f"{path} declares {opened.width}x{opened.height}, {opened.width * opened.height / 1e6:,.1f} MP, and a "
            f"picture has at most {most_pixels:,} pixels",
            "make it smaller, or take it away",
        )


def _what(path: Path) -> str:
    if path.is_symlink() and not os.path.exists(path):
        return "a link that leads nowhere"
    return "a folder" if path.is_dir() else "a pipe" if path.is_fifo() else "no regular file"
