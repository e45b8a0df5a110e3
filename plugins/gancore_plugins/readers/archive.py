"""Pictures in a zip archive, read where they are: nothing is unpacked to disk."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from gancore.errors import DataError
from gancore.utils.files import regular
from gancore_plugins.readers.listing import RUN_FILES, RUNS, Lister, why_skipped
from gancore_plugins.readers.picture import MAX_BYTES, begins_like_a_picture, has_picture_suffix, why_no_picture

MOST_DIRECTORY = 128 << 20
"""The most bytes of the list of files in an archive, enough for a million."""
MOST_IN_MEMORY = 32 << 20
"""The most bytes of a file that is unpacked as a whole; larger ones are unpacked as they are read."""
_BEGINNINGS = (b"PK\3\4", b"PK\5\6")
_HEADER = struct.Struct("<4s5H3L2H")
ENCRYPTED = "encrypted"
METHOD = "compressed by another method than deflate"
DAMAGED = "damaged in the archive"
UNSAFE = "with an unsafe path"
LINKS = "linked in the archive"
DUPLICATES = "replaced by a later file of the same name"


class Entry(NamedTuple):
    """Where a file is in an archive, and what the archive declares about it."""

    offset: int
    packed: int
    size: int
    checksum: int
    deflated: bool


@dataclass(frozen=True)
class ArchiveFiles:
    """The pictures in a zip archive; the same names in the same order as of the folder that it unpacks to."""

    place: Path
    names: Sequence[str]
    skipped: Mapping[str, Sequence[str]]
    folders: Sequence[str]
    entries: Mapping[str, Entry] = field(repr=False, compare=False)

    def identity(self, name: str) -> bytes:
        """See `PictureFiles`. An archive has a checksum of the content, which stands for the time."""
        entry = self.entries[name]
        return f"{name}\0{entry.size}\0{entry.checksum}".encode(errors="surrogateescape")

    def size(self, name: str) -> int:
        """See `PictureFiles`. This is the size that the archive declares; no more than that is read."""
        if name not in self.entries:
            raise OSError(f"there is no {name} in {self.place}")
        return self.entries[name].size

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """See `PictureFiles`. The checksum is checked first, for which a large file is unpacked twice."""
        size = self.size(name)
        with regular(self.place) as file:
            unpacked = _unpacked(file, self.entries[name])
            if size <= MOST_IN_MEMORY:
                unpacked = io.BytesIO(unpacked.read())
            else:
                while unpacked.read(1 << 20):
                    pass
                unpacked.seek(0)
            yield unpacked

    def only(self, names: Sequence[str], skipped: Mapping[str, Sequence[str]]) -> ArchiveFiles:
        """See `PictureFiles`."""
        return replace(self, names=names, skipped=skipped)


def is_archive(path: Path) -> bool:
    """Return whether a file begins like a zip archive. Raise DataError if it cannot be read."""
    try:
        with regular(path) as file:
            return file.read(4) in _BEGINNINGS
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", "check the path") from error


def archive_files(path: Path) -> ArchiveFiles:
    """List an archive. Raise DataError when it is damaged, or its list of files is too long."""
    try:
        with regular(path) as file:
            with checked_zip(file) as archive:
                infos = archive.infolist()
            return _list(path, file, infos)
    except DataError:
        raise
    except Exception as error:  # zipfile raises many types for damaged files
        raise DataError(
            f"cannot read archive {path}: {error}", "pack it again, or unpack it and name the folder"
        ) from error


def checked_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Open an archive. Raise BadZipFile if it is cut off, or its list of files is larger than memory should hold.

    For damaged archives zipfile raises other errors too.
    """
    if not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile("it is cut off: a zip archive ends with a list of its files")
    return zipfile.ZipFile(_Bounded(file))


class _Bounded:
    """A file for zipfile, which reads the list of files at once, with the size that the archive declares."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable, self._file = file.seek, file.tell, file.seekable, file

    def read(self, size: int = -1) -> bytes:
        if size > MOST_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of files has {size:,} bytes; the most is {MOST_DIRECTORY:,}")
        return self._file.read(size)


def _list(path: Path, file: BinaryIO, infos: list[zipfile.ZipInfo]) -> ArchiveFiles:
    """Sort the entries into pictures and the reasons to skip them, as `list_folder` does with files."""
    found, entries, folders, runs = Lister(), dict[str, Entry](), set[str](), _runs(infos)
    skipped = dict[str, str]()  # an entry below a skipped folder counts as that folder
    if "" in runs:
        return ArchiveFiles(path, [], {RUNS: ["./"]}, [], {})
    for info in infos:
        name = _name(info)
        if not (parts := _parts(name)):
            found.skip(UNSAFE, name)
        elif place := _skipped_part(name, parts, runs):
            skipped[place[0]] = place[1]
        elif name.endswith("/"):
            folders.add(name)
        elif reason := _why_unreadable(info):
            found.skip(reason, name)
        else:
            if name in entries:
                found.skip(DUPLICATES, name)
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            entries[name] = Entry(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated)
    for name, reason in skipped.items():
        found.skip(reason, name)
    for name, entry in entries.items():
        if has_picture_suffix(name):
            found.names.append(name)
        else:
            _look_into(file, name, entry, found)
        while (name := name.rpartition("/")[0]) and f"{name}/" not in folders:
            folders.add(f"{name}/")
    found.folders += folders
    listing = found.listing()
    return ArchiveFiles(path, listing.names, listing.skipped, listing.folders, entries)


def _skipped_part(name: str, parts: list[str], runs: set[str]) -> tuple[str, str] | None:
    """Return the part of a path that is not read, itself or a folder above it, and why; None if it is read."""
    place = ""
    for number, part in enumerate(parts, 1):
        place += part if number == len(parts) and not name.endswith("/") else f"{part}/"
        if reason := RUNS if place in runs else why_skipped(part):
            return place, reason
    return None


def _name(info: zipfile.ZipInfo) -> str:
    """Return the path of an entry, decoded as the program meant it that packed the archive."""
    name = info.orig_filename
    if not info.flag_bits & 0x800:  # without this flag, zipfile decodes as in DOS; macOS stores UTF-8 without it
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/").removeprefix("./")


def _parts(name: str) -> list[str]:
    """Return the parts of a safe path, else nothing."""
    parts = name.removesuffix("/").split("/")
    safe = all(part not in ("", ".", "..") and "\0" not in part for part in parts) and not (
        len(parts[0]) == 2 and parts[0][1] == ":"
    )
    return parts if safe else []


def _runs(infos: list[zipfile.ZipInfo]) -> set[str]:
    """Return the folders that are runs, with a slash at the end."""
    run_files: dict[str, set[str]] = {}
    for info in infos:
        folder, _, last = _name(info).rpartition("/")
        if last in RUN_FILES:
            run_files.setdefault(f"{folder}/" if folder else "", set()).add(last)
    return {folder for folder, files in run_files.items() if files == RUN_FILES}


def _why_unreadable(info: zipfile.ZipInfo) -> str | None:
    if info.create_system == 3 and stat.S_ISLNK(info.external_attr >> 16):
        return LINKS
    if info.flag_bits & 0x1:
        return ENCRYPTED
    return None if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else METHOD


def _look_into(file: BinaryIO, name: str, entry: Entry, found: Lister) -> None:
    try:
        unpacked = _unpacked(file, entry)
        may_be = begins_like_a_picture(unpacked, name, prefix_only=True) and entry.size <= MAX_BYTES
        unpacked.seek(0)
        is_picture = may_be and begins_like_a_picture(unpacked, name)
    except OSError:
        found.skip(DAMAGED, name)
        return
    if is_picture:
        found.names.append(name)
    else:
        found.skip(why_no_picture(name), name)


def _unpacked(file: BinaryIO, entry: Entry) -> BinaryIO:
    """Return the content of an entry, which is unpacked as it is read. Raise OSError if it has no header."""
    file.seek(entry.offset)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(b"PK\3\4"):
        raise OSError(f"{DAMAGED}: it has no header")
    file.seek(sum(_HEADER.unpack(header)[-2:]), io.SEEK_CUR)  # the name and extra fields
    info = zipfile.ZipInfo()
    info.compress_type = zipfile.ZIP_DEFLATED if entry.deflated else zipfile.ZIP_STORED
    info.compress_size, info.file_size, info.CRC = entry.packed, entry.size, entry.checksum
    return cast(BinaryIO, _Unpacked(file, info))  # it has the methods, but not the base class


class _Unpacked(zipfile.ZipExtFile):
    """The content of an entry, which is unpacked as it is read, and no further than it declares."""

    def __init__(self, file: BinaryIO, info: zipfile.ZipInfo) -> None:
        super().__init__(file, "r", info)
        self._declared = info.file_size

    def read(self, n: int | None = -1) -> bytes:
        """Return up to `n` bytes, all without it. Raise OSError if they are damaged."""
        try:
            return super().read(self._declared if n is None or n < 0 else min(n, self._declared))
        except zipfile.BadZipFile as error:
            raise OSError(f"{DAMAGED}: its checksum is wrong") from error
        except (zlib.error, EOFError) as error:
            raise OSError(f"{DAMAGED}: {str(error) or 'it ends early'}") from error
