"""The cache of decoded pictures: one memory-mapped array, and an index of what each of its rows was decoded from."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gancore.errors import DataError, StorageError
from gancore.utils.atomic import replacing
from gancore.utils.files import without_warnings
from gancore.utils.lock import exclusive
from gancore_plugins.datasets.decoding import Decoded, PictureFormat, Pixels, decode
from gancore_plugins.readers.picture_files import PictureFiles

_DECODER_VERSION = 4
"""Part of a cache's name. Increase it when pictures are decoded differently, so that old caches are not used."""
_CHUNK = 64
"""Pictures that are decoded before they are written and progress is reported."""
_MOST_PIXELS_PER_THREAD = 16_000_000
"""Larger pictures are decoded one by one, in one thread: memory that a thread frees is often not used by others."""
_MOST_BYTES_PER_THREAD = 32 << 20
"""Larger files too, since Pillow reads some formats as a whole."""
_SAVE_SECONDS = 30.0
"""How often the index is written, so that a killed process loses little work."""
_ROW = np.dtype(
    [
        ("identity", "u1", 16),  # digest of the picture's identity
        ("width", "<u4"),  # of the file
        ("height", "<u4"),
        ("lowest", "<u2"),  # of the decoded values
        ("highest", "<u2"),
        ("state", "u1"),
        ("format", "u1"),  # a number in `FORMATS`
        ("transparent", "?"),
        ("deep", "?"),
    ]
)
"""What the index says of a picture."""
_NEW, _DECODED, _FAILED = range(3)
"""States of a row."""
_MOST_FORMATS = 256
Rows = NDArray[np.void]


@dataclass
class PictureIndex:
    """What is known of the pictures of a cache: a row `_ROW` for each, and why some of them cannot be read."""

    rows: Rows
    formats: list[str]
    """Names of the formats, which rows refer to by number."""
    reasons: dict[int, str]
    """Why a row cannot be read, by its number."""

    @property
    def decoded(self) -> NDArray[np.bool_]:
        """Which rows are decoded, (N,)."""
        return np.asarray(self.rows["state"] == _DECODED)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The lowest and the highest of all decoded values; the two differ. None if nothing is decoded."""
        rows = self.rows[self.decoded]
        if not len(rows):
            return None
        low, high = float(rows["lowest"].min()), float(rows["highest"].max())
        return low, max(high, low + 1)

    def enter(self, number: int, decoded: Decoded | str) -> None:
        """Note what became of a picture."""
        row = self.rows[number]
        if isinstance(decoded, str):
            row["state"], self.reasons[number] = _FAILED, decoded
            return
        self.reasons.pop(number, None)
        if decoded.file_format not in self.formats and len(self.formats) < _MOST_FORMATS:
            self.formats.append(decoded.file_format)
        row["width"], row["height"] = decoded.size
        row["lowest"], row["highest"] = decoded.pixels.min(), decoded.pixels.max()
        row["format"] = self.formats.index(decoded.file_format)
        row["transparent"], row["deep"], row["state"] = decoded.transparent, decoded.deep, _DECODED

    def save(self, path: Path, source: str) -> None:
        """Write the index. Raise OSError if that fails."""
        about = json.dumps({"source": source, "formats": self.formats, "reasons": self.reasons})
        with replacing(path, exclusive=True) as temporary, temporary.open("wb") as file:
            np.savez(file, rows=self.rows, about=np.frombuffer(about.encode("utf-8", "surrogateescape"), np.uint8))

    @classmethod
    def load(cls, path: Path, source: str) -> PictureIndex | None:
        """Return the index in a file, None without a sound one of this source."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                rows, about = saved["rows"], json.loads(saved["about"].tobytes().decode("utf-8", "surrogateescape"))
            if rows.dtype != _ROW or about["source"] != source:
                return None
            return cls(rows, list(about["formats"]), {int(row): why for row, why in about["reasons"].items()})
        except Exception:  # a damaged file can raise anything, and is written anew
            return None


@dataclass(frozen=True)
class PictureCache:
    """Decoded pictures in one format: an array (N, C, H, W), uint8 or uint16, in `path`, with an index."""

    files: PictureFiles
    form: PictureFormat
    path: Path
    identities: NDArray[np.uint8]
    """A digest of each picture's identity, (N, 16)."""
    source: str
    """A digest of the place and format. Arrays of one source can take over decoded rows from each other."""

    @classmethod
    def in_folder(cls, folder: Path, files: PictureFiles, form: PictureFormat) -> PictureCache:
        """Return the cache in `folder` for these pictures; `build` creates its files.

        Its name is a digest of the format and of the identity of each picture. Raise DataError if a picture can no
        longer be read.
        """
        about = [_DECODER_VERSION, os.fspath(files.place.absolute())]
        about += [form.size, form.channels, form.fit, form.half, form.bits]
        source = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
        identities = np.empty((len(files.names), 16), np.uint8)
        for number, name in enumerate(files.names):
            digest = hashlib.blake2b(files.identity(name), digest_size=16).digest()
            identities[number] = np.frombuffer(digest, np.uint8)
        name = f"{source}-{hashlib.sha256(identities.tobytes()).hexdigest()[:24]}.npy"
        return cls(files, form, folder / name, identities, source)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.files.names), self.form.channels, *self.form.size

    def index(self) -> PictureIndex | None:
        """Return what is known of the pictures, None before `build` began."""
        index = PictureIndex.load(self.path.with_suffix(".npz"), self.source)
        if index is None or len(index.rows) != len(self.identities):
            return None
        same = np.array_equal(index.rows["identity"], self.identities) and _is_sound(
            self.path, self.shape, self.form.dtype
        )
        return index if same else None

    def build(self, *, retry: bool = True) -> Iterator[float]:
        """Decode the pictures that are not decoded yet; yield the share that is done.

        Pictures that could not be read before are tried again if `retry`. Of several processes one decodes and the
        others wait. Whatever was decoded is kept, also when the process is killed. Raise StorageError if the files
        cannot be written.
        """
        if self._is_done(retry):
            return
        try:
            with exclusive(self.path):
                if not self._is_done(retry):
                    yield from self._make()
        except OSError as error:
            raise StorageError(
                f"cannot write decoded pictures to {self.path.parent}: {error}", "use another folder: --data-dir FOLDER"
            ) from error

    def _is_done(self, retry: bool) -> bool:
        index = self.index()
        return index is not None and bool(np.all(index.rows["state"] != _NEW)) and not (retry and index.reasons)

    def _make(self) -> Iterator[float]:
        # The index is removed before the array changes, so it never describes another one.
        index = self.index() or self._start()
        missing = np.flatnonzero(~index.decoded)
        self._check_space(len(missing))
        images = np.lib.format.open_memmap(self.path, mode="r+")
        try:
            yield from self._fill(images, index, missing)
        finally:
            images.flush()
            index.save(self.path.with_suffix(".npz"), self.source)

    def _check_space(self, count: int) -> None:
        # A disk that fills up while a memory-mapped file is written would kill the process, so check first.
        needed = count * math.prod(self.shape[1:]) * np.dtype(self.form.dtype).itemsize
        if (free := shutil.disk_usage(self.path.parent).free) < needed:
            raise OSError(f"{needed:,} bytes are needed, and {free:,} are free")

    def _start(self) -> PictureIndex:
        """Create the array, with the rows of earlier arrays whose pictures are the same, and return its index."""
        self._check_space(len(self.identities))
        index = PictureIndex(np.zeros(len(self.identities), _ROW), [], {})
        index.rows["identity"] = self.identities
        self.path.with_suffix(".npz").unlink(missing_ok=True)
        with replacing(self.path, exclusive=True) as temporary:
            images = np.lib.format.open_memmap(temporary, mode="w+", dtype=self.form.dtype, shape=self.shape)
            for path in sorted(self.path.parent.glob(f"{self.source}-*.npz")):
                if index.decoded.all():
                    break
                self._take_over(path, images, index)
            images.flush()
        return index

    def _take_over(self, path: Path, images: NDArray[Any], index: PictureIndex) -> None:
        """Copy the rows of an earlier array whose pictures are still the same."""
        earlier = PictureIndex.load(path, self.source)
        if earlier is None or not _is_sound(
            path.with_suffix(".npy"), (len(earlier.rows), *self.shape[1:]), self.form.dtype
        ):
            return
        try:
            array: Pixels = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        except OSError:  # removed by now
            return
        known = np.flatnonzero(earlier.decoded)
        wanted = np.flatnonzero(~index.decoded)
        targets, sources = _same(self.identities[wanted], earlier.rows["identity"][known])
        targets, sources = wanted[targets], known[sources]
        numbers = np.array([_number(index.formats, name) for name in earlier.formats], np.uint8)
        for start in range(0, len(targets), _CHUNK):
            to, of = targets[start : start + _CHUNK], sources[start : start + _CHUNK]
            images[to] = array[of]
            rows = earlier.rows[of]
            rows["format"] = numbers[rows["format"]]
            index.rows[to] = rows

    def _fill(self, images: np.memmap[Any, Any], index: PictureIndex, missing: NDArray[np.intp]) -> Iterator[float]:
        """Decode pictures into `images`, note in the index what became of each; yield the share that is done."""
        count, saved = len(index.rows), time.monotonic()
        before = count - len(missing)
        # Threads suffice: Pillow releases the GIL while it decodes and resizes.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(missing), _CHUNK):
                numbers = missing[start : start + _CHUNK].tolist()
                names = [self.files.names[number] for number in numbers]
                with without_warnings():
                    chunk = list(pool.map(self._decode_small, names))
                for done, (number, decoded) in enumerate(zip(numbers, chunk, strict=True), before + start + 1):
                    if decoded is None:
                        with without_warnings():
                            decoded = decode(self.files, self.files.names[number], self.form)
                    if isinstance(decoded, Decoded):
                        images[number] = decoded.pixels
                    if decoded is not None:  # never, without a limit of pixels
                        index.enter(number, decoded)
                    yield done / count
                if time.monotonic() - saved > _SAVE_SECONDS:
                    images.flush()
                    index.save(self.path.with_suffix(".npz"), self.source)
                    saved = time.monotonic()

    def _decode_small(self, name: str) -> Decoded | str | None:
        with suppress(OSError):  # decoding reports it
            if self.files.size(name) > _MOST_BYTES_PER_THREAD:
                return None
        return decode(self.files, name, self.form, _MOST_PIXELS_PER_THREAD)


def check_readable(caches: Sequence[PictureCache], *, skip: bool) -> NDArray[np.intp] | None:
    """Return the rows that are decoded in all caches, None if all are; the caches are built.

    Raise DataError, with names and reasons, if a picture cannot be read, unless such are to be skipped; also if none
    can be read.
    """
    readable, problems = np.ones(len(caches[0].files.names), np.bool_), list[str]()
    places = list(dict.fromkeys(cache.files.place for cache in caches))
    for cache in caches:
        index = cache.index()
        if index is None:
            raise StorageError(f"{cache.path} was changed or removed by another process", "run the command again")
        readable &= index.decoded
        for row, why in sorted(index.reasons.items()):
            name = cache.files.names[row]
            problems.append(why if len(places) == 1 else why.replace(name, str(cache.files.place / name), 1))
    if readable.all():
        return None
    problems = list(dict.fromkeys(problems))  # both halves of a picture have the same
    where, some = " and ".join(map(str, places)), _some(problems, places)
    if not readable.any():
        raise DataError(f"no picture in {where} can be read: {some}", "replace them, or name another folder")
    if not skip:
        raise DataError(
            f"{len(problems)} of {len(readable) * len(places)} pictures in {where} cannot be read: {some}",
            "replace or remove them, or leave them out: --set dataset.on_error=skip",
        )
    return np.flatnonzero(readable)


_NAMED = 20
"""Number of unreadable pictures that an error names."""


def _some(problems: Sequence[str], places: Sequence[Path]) -> str:
    shown = "; ".join(problems[:_NAMED])
    if len(problems) <= _NAMED:
        return shown
    listing = f" (gancore data {quote(str(places[0]))} --json lists all)" if len(places) == 1 else ""
    return f"{shown}; and {len(problems) - _NAMED} more{listing}"


def _is_sound(path: Path, shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16]) -> bool:
    """Return whether a file holds an array of this shape and type; a truncated one does not."""
    try:
        array: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return array.shape == shape and array.dtype == dtype


def _same(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return pairs of row numbers of two arrays (N, 16) and (M, 16) whose rows are equal."""
    if not len(first) or not len(second):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    # Rows are found by their first 8 bytes, and compared as a whole.
    keys, wanted = (np.ascontiguousarray(rows[:, :8]).view("<u8").ravel() for rows in (second, first))
    order = np.argsort(keys)
    places = order[np.searchsorted(keys[order], wanted).clip(max=len(keys) - 1)]
    equal = np.flatnonzero((second[places] == first).all(axis=1))
    return equal, places[equal]


def _number(formats: list[str], name: str) -> int:
    """Return the number of a format, which is appended if it is new."""
    if name not in formats:
        formats.append(name)
    return formats.index(name)
