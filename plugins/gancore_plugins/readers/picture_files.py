"""Pictures of the user, wherever they are stored: in a folder, or in an archive."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from gancore.errors import DataError
from gancore.utils.files import regular
from gancore_plugins.readers.archive import archive_files, is_archive
from gancore_plugins.readers.listing import RUNS, list_folder
from gancore_plugins.readers.picture import begins_like_a_picture


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

    @property
    def folders(self) -> Sequence[str]:
        """The paths of the folders that were searched, with a slash at the end."""

    def identity(self, name: str) -> bytes:
        """Return what changes when the picture does: its path, size and time. Raise DataError if it is gone."""

    def size(self, name: str) -> int:
        """Return the bytes of a file. Raise OSError if it is gone."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file for reading in a block; safe in threads. Raise OSError if it cannot be read."""

    def only(self, names: Sequence[str], skipped: Mapping[str, Sequence[str]]) -> PictureFiles:
        """Return some of the pictures, with the reasons for which others are skipped."""


@dataclass(frozen=True)
class FolderFiles:
    """The pictures below a folder."""

    place: Path
    names: Sequence[str]
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folders: Sequence[str] = ()

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

    def size(self, name: str) -> int:
        """See `PictureFiles`."""
        return os.stat(os.path.join(self.place, name)).st_size

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """See `PictureFiles`."""
        return regular(self.place / name)

    def only(self, names: Sequence[str], skipped: Mapping[str, Sequence[str]]) -> FolderFiles:
        """See `PictureFiles`."""
        return replace(self, names=names, skipped=skipped)


def picture_files(path: Path) -> PictureFiles:
    """Return the pictures of a folder or zip archive, or a single picture. Raise DataError without pictures.

    Raise it also when there is nothing at the path, and when it cannot be read.
    """
    if not path.exists():
        raise DataError(f"there is no folder or archive {path}", "check the path")
    if path.is_dir():
        files: PictureFiles = _in_folder(path)
    elif is_archive(path):
        files = archive_files(path)
    elif _is_picture(path):
        files = FolderFiles(path.parent, [path.name])
    else:
        raise DataError(f"{path} is neither a picture nor a zip archive", "name a folder or a zip archive")
    if not files.names:
        raise no_pictures(files)
    return files


def offered_pictures(path: Path) -> PictureFiles | None:
    """Return the pictures at a path, None if something else is there that another dataset may read.

    Raise DataError for a folder or `.zip` archive with nothing else, and when it cannot be read.
    """
    is_zip = path.suffix.lower() == ".zip"
    if path.is_dir():
        files: PictureFiles = _in_folder(path)
        if not files.names and not any(reason.endswith("(no picture)") for reason in files.skipped):
            raise no_pictures(files)
    elif is_zip or not is_archive(path):
        return picture_files(path) if is_zip or _is_picture(path) else None
    else:
        try:  # arrays and checkpoints may be zip archives too
            files = archive_files(path)
        except DataError:
            return None
    return files if files.names else None


def _in_folder(path: Path) -> FolderFiles:
    listing = list_folder(path)
    return FolderFiles(path, listing.names, listing.skipped, listing.folders)


def _is_picture(path: Path) -> bool:
    try:
        with regular(path) as file:
            return begins_like_a_picture(file, path.name)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", "check the path") from error


def no_pictures(files: PictureFiles) -> DataError:
    """Return the error for a place without pictures, which says what is there in their place."""
    if RUNS in files.skipped and "./" in files.skipped[RUNS]:
        samples = files.place / "samples"
        return DataError(
            f"{files.place} is a run of gancore, not a folder of pictures", f"name a folder, such as {samples}"
        )
    what = ", ".join(f"{len(names):,} {reason}" for reason, names in files.skipped.items())
    return DataError(
        f"no pictures in {files.place}{f': it holds {what}' if what else ', which is empty'}",
        "name a folder or a zip archive of pictures",
    )
