"""Opening pictures of any format: the content decides which, and a header is checked before pixels are decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image, UnidentifiedImageError

from gancore.errors import DataError
from gancore.utils.files import without_warnings

if TYPE_CHECKING:
    from gancore_plugins.readers.picture_files import PictureFiles

MAX_PIXELS = 128_000_000
"""Default limit of the pixels of a picture."""
MAX_BYTES = 8 * MAX_PIXELS + (1 << 20)
"""The most bytes of a file with the default limit."""
RAISE_LIMIT = "--set dataset.max_pixels=N"
"""The setting that raises the limit of pixels."""

# Left out of what Pillow reads: EPS and WMF run other programs, FITS decompresses without bounds, SPIDER and MCIDAS
# accept almost any bytes, and BUFR, GRIB, HDF5 and MPEG are no decoders.
_BY_CONTENT = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM", "PSD", "QOI", "DDS", "ICNS"),
)
"""Formats that are recognized under any suffix."""
_BY_SUFFIX = (
    *("TGA", "ICO", "CUR", "DIB", "PCX", "DCX", "SGI", "SUN", "FLI", "BLP", "FTEX", "GBR", "IM", "MSP", "PCD"),
    *("PIXAR", "XBM", "XPM"),
)
"""Formats whose content is not distinctive, so that a file needs their suffix too."""
_TRUSTED = {*_BY_CONTENT, "TGA", "ICO", "DIB"} - {"HEIF"}
"""Formats with suffixes that nothing else has. Files of phones are opened, since decoders differ in what they read."""
_HEIF_SUFFIXES = {".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"}
_HEIF_BEGINNINGS = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1")}
_INSTALL_HEIF = "pip install 'gancore[heif]'"
_UNDECODED = {
    *(".svg", ".svgz", ".eps", ".ps", ".ai", ".wmf", ".emf", ".pdf", ".jxl", ".exr", ".hdr", ".xcf", ".fits", ".fit"),
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw", ".x3f"),
}
"""Suffixes of pictures that are not read: drawings, raw files of cameras (which begin like TIFF files), and others."""


@cache
def _formats() -> frozenset[str]:
    """Return the formats that can be decoded here, after their decoders have been registered."""
    Image.init()
    if find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return frozenset(name for name in (*_BY_CONTENT, *_BY_SUFFIX) if name in Image.OPEN)


@cache
def _suffixes() -> dict[str, str]:
    """Return the format of each suffix, also those that cannot be decoded here."""
    _formats()
    names = {*_BY_CONTENT, *_BY_SUFFIX}
    known = {suffix: name for suffix, name in Image.EXTENSION.items() if name in names}
    return {**known, ".avif": "AVIF", ".webp": "WEBP", ".jp2": "JPEG2000", ".mpo": "JPEG", **_HEIF_SUFFIXES}


def suffix_of(name: str) -> str:
    """Return the suffix of a path in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()


def has_picture_suffix(name: str) -> bool:
    """Return whether the suffix of a path is that of pictures only, of a format that can be decoded."""
    format_name = _suffixes().get(suffix_of(name))
    return format_name in _TRUSTED and format_name in _formats()


def why_no_picture(name: str) -> str:
    """Return why a file that does not begin like a picture is skipped, by its suffix."""
    suffix = suffix_of(name)
    if suffix in _HEIF_SUFFIXES and "HEIF" not in _formats():
        return f"{suffix} (no decoder: {_INSTALL_HEIF})"
    if suffix in _HEIF_SUFFIXES:
        return f"{suffix} (damaged)"
    if suffix in _UNDECODED or _suffixes().get(suffix, "PNG") not in _formats():
        return f"{suffix} (no decoder)"
    if not suffix or len(suffix) > 8 or suffix[1:].isdigit():
        return "other"
    return f"{suffix} (no picture)"


def begins_like_a_picture(file: BinaryIO, name: str, prefix_only: bool = False) -> bool:
    """Return whether a file has the header of a picture, whatever its suffix; with `prefix_only`, whether it may."""
    if suffix_of(name) in _UNDECODED:
        return False
    prefix = file.read(16)
    if not prefix:
        return False
    formats = [each for each in _allowed(name) if (accept := Image.OPEN[each][1]) is None or accept(prefix)]
    if not formats or prefix_only:
        return bool(formats)
    try:
        with without_warnings(), Image.open(file, formats=formats):
            return True
    except Exception:  # Pillow raises any exception for damaged files
        return False


@contextmanager
def picture(
    files: PictureFiles, name: str, max_pixels: int = MAX_PIXELS, *, verify: bool = True
) -> Iterator[Image.Image]:
    """Open a picture in the block, after a check of its header. Only the block decodes its pixels.

    With `verify` a PNG is read once for its checksums, which decoding ignores.
    Raises DataError, which names the file, when it is damaged or of no known format, declares more than `max_pixels`,
    or is larger than that number of pixels uncompressed; also when the block fails. See `without_warnings` for the
    warnings of Pillow.
    """
    path = files.place / name
    try:
        if (size := files.size(name)) > (most := 8 * max_pixels + (1 << 20)):
            raise DataError(
                f"{path} has {size:,} bytes, more than the {most:,} of a picture of {max_pixels:,} pixels",
                f"make it smaller, or raise the limit: {RAISE_LIMIT}",
            )
        with files.open(name) as file:
            with Image.open(file, formats=_allowed(name)) as opened:
                _check_size(opened, path, max_pixels)
                if opened.format != "PNG" or not verify:
                    yield opened
                    return
                opened.verify()  # checks the checksums, which decoding does not; the picture cannot be used after it
            file.seek(0)
            with Image.open(file, formats=["PNG"]) as opened:
                yield opened
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise _not_identified(files, name) from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path} declares too many pixels: {error}", "make it smaller, or remove it"
        ) from error  # beyond what any limit allows
    except Exception as error:  # Pillow raises any exception for damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot read picture {path}: {reason}", "replace or remove it") from error


def _allowed(name: str) -> list[str]:
    """Return the formats that a file may be opened as."""
    own = _suffixes().get(suffix_of(name))
    return [each for each in (*_BY_CONTENT, *_BY_SUFFIX) if each in _formats() and (each in _BY_CONTENT or each == own)]


def _check_size(opened: Image.Image, path: Path, max_pixels: int) -> None:
    if (pixels := opened.width * opened.height) > max_pixels:
        raise DataError(
            f"{path} declares {opened.width}x{opened.height}, {pixels / 1e6:,.1f} MP; "
            f"the most is {max_pixels:,} pixels",
            f"make it smaller, remove it, or raise the limit: {RAISE_LIMIT}",
        )


def _not_identified(files: PictureFiles, name: str) -> DataError:
    """Return the error for a file that is of no format that can be read."""
    path, begin = files.place / name, b""
    try:
        with files.open(name) as file:
            begin = file.read(16)
    except (OSError, DataError):
        pass
    if not begin:
        return DataError(f"{path} is empty", "replace or remove it")
    if begin[4:12] in _HEIF_BEGINNINGS and "HEIF" not in _formats():
        return DataError(f"{path} is a HEIC picture, which needs a decoder", _INSTALL_HEIF)
    return DataError(f"{path} has the suffix of a picture, but not the content of one", "replace or remove it")
