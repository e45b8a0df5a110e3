"""Safe extraction from archives: only requested files, and only to names that the caller chooses."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

_MAX_ENTRIES = 100
_CHUNK = 1 << 18


def take(archive: Path, wanted: Mapping[str, str], most: int, into: Path) -> None:
    """Copy files of a gzipped tar archive into a folder; `wanted` maps their paths in it to their new names.

    Raise OSError or tarfile.TarError if a file is missing or larger than `most` bytes, or if the archive is damaged or
    suspicious: paths that leave its folder, links, devices, or more than 100 entries.
    """
    limit = _MAX_ENTRIES * 4 * tarfile.BLOCKSIZE + most * (len(wanted) + 1)
    missing = dict(wanted)
    with _Bounded(archive, limit) as stream, tarfile.open(fileobj=stream, mode="r:") as members:
        for count, member in enumerate(members, 1):
            path = PurePosixPath(member.name)
            if count > _MAX_ENTRIES:
                raise OSError(f"{archive.name} has more than {_MAX_ENTRIES} entries")
            if path.is_absolute() or ".." in path.parts or "\0" in member.name:
                raise OSError(f"unsafe path in archive {archive.name}: {member.name!r}")
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
                raise OSError(f"{archive.name} contains {member.name!r}, which is neither a file nor a folder")
            if member.size > most:
                raise OSError(f"{archive.name} contains {member.name!r} with {member.size:,} bytes, more than {most:,}")
            content = members.extractfile(member) if member.name in missing else None
            if content is not None:
                with content, Path(into, missing.pop(member.name)).open("wb") as file:
                    while chunk := content.read(_CHUNK):
                        file.write(chunk)
    if missing:
        raise OSError(f"{archive.name} does not contain {', '.join(missing)}")


class _Bounded(gzip.GzipFile):
    """A gzip file that refuses large reads, and reads beyond a limit, whatever size a header of tar declares."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, "rb")
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _CHUNK or self.tell() + size > self._limit:
            raise OSError(f"{self.name} declares more data than allowed")
        return super().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset > self._limit:
            raise OSError(f"{self.name} declares more data than allowed")
        return super().seek(offset, whence)
