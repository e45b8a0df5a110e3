"""Pictures of the user, wherever they are stored: in a folder, or in an archive."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from gancore.errors import DataError
from gancore.utils.files import pictures_below, regular


class PictureFiles(Protocol):
    """Pictures in one place. `names` are their paths in it, sorted; `skipped` what is no picture there, by reason."""

    @property
    def place(self) -> Path:
        """The folder or archive."""

    @property
    def names(self) -> Sequence[str]:
        """The paths of the pictures, with slashes."""

    @property
    def skipped(self) -> Mapping[str, Sequence[str]]:
        """The paths of other files, by the reason for which they are skipped."""

    def identity(self, name: str) -> bytes:
        """Return what changes when the picture does: its path, size and time. Raise DataError if it is gone."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open the file of a picture for reading in a block; safe in threads. Raise OSError if it cannot be read."""


@dataclass(frozen=True)
class FolderFiles:
    """The pictures below a folder."""

    place: Path
    names: Sequence[str]
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def identity(self, name: str) -> bytes:
        """See `PictureFiles`."""
        path = os.path.join(self.place.absolute(), name)
        try:
            status = os.stat(path)
        except OSError as error:
            raise DataError(
                f"{path} was found but can no longer be read: {error.strerror}",
                "do not change the folder while a run starts",
            ) from error
        return f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """See `PictureFiles`."""
        return regular(self.place / name)


def picture_files(path: Path) -> PictureFiles:
    """Return the pictures at a path. Raise DataError without pictures, and when it cannot be read."""
    return FolderFiles(path, pictures_below(path))
