"""Files out of archives, by name: nothing is unpacked that was not asked for, or to where the archive says."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

_MOST_ENTRIES = 100
_CHUNK = 1 << 18


def take(archive: Path, wanted: Mapping[str, str], most: int, into: Path) -> None:
    """Copies files of a gzipped tar archive into a folder; `wanted` maps their paths in it to their new names.

    Raises OSError or tarfile.TarError when one is not there or larger than `most` bytes, and for an archive that is
    damaged or that no honest publisher makes: with paths that lead out of it, links, devices or very many entries.
    """
    limit = _MOST_ENTRIES * 4 * tarfile.BLOCKSIZE + most * (len(wanted) + 1)
    missing = dict(wanted)
    with _Bounded(archive, limit) as stream, tarfile.open(fileobj=stream, mode="r:") as members:
        for count, member in enumerate(members, 1):
            path = PurePosixPath(member.name)
            if count > _MOST_ENTRIES:
                raise OSError(f"{archive.name} has more than {_MOST_ENTRIES} entries")
            if path.is_absolute() or ".." in path.parts or "\0" in member.name:
                raise OSError(f"unsafe path in archive {archive.name}: {member.name!r}")
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
                raise OSError(f"{archive.name} holds {member.name!r}, which is neither file nor folder")
            if member.size > most:
                raise OSError(f"{archive.name} holds {member.name!r} of {member.size:,} bytes, more than {most:,}")
            content = members.extractfile(member) if member.name in missing else None
            if content is not None:
                with content, Path(into, missing.pop(member.name)).open("wb") as file:
                    while chunk := content.read(_CHUNK):
                        file.write(chunk)
    if missing:
        raise OSError(f"{archive.name} holds no file {', '.join(missing)}")


class _Bounded(gzip.GzipFile):
    """An archive's bytes, in small pieces: what a header declares to be large is never read as a whole."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, "rb")
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _CHUNK or self.tell() + size > self._limit:
            raise OSError(f"{self.name} declares more than it may hold")
        return super().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset > self._limit:
            raise OSError(f"{self.name} declares more than it may hold")
        return super().seek(offset, whence)
