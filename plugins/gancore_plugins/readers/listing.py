"""Listing a folder: which of its files are pictures, in which order, and why the others are skipped."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gancore.errors import DataError
from gancore.utils.files import regular
from gancore_plugins.readers.picture import begins_like_a_picture, has_picture_suffix, why_no_picture

# Reasons to skip a path, as they follow a number.
HIDDEN = "hidden"
FORKS = "macOS metadata"
THUMBNAILS = "thumbnail data"
SYSTEM = "system data"
RUNS = "gancore run data"
BROKEN_LINKS = "behind broken links"
AGAIN = "linked again"
SPECIAL = "not a file"
CLOSED = "without permission"
UNREADABLE = "that cannot be opened"

RUN_FILES = frozenset({"config.toml", "manifest.json"})
"""Files that a folder has both of if it is a run."""
_THUMBNAILS = {"@eadir", "thumbs.db", "ehthumbs.db", ".thumbnails", ".thumb", ".@__thumb"}
_SYSTEM = {"desktop.ini", "$recycle.bin", "system volume information", "lost+found"}
_NUMBER = re.compile("[0-9]+")


@dataclass(frozen=True)
class Listing:
    """Pictures in one place. All paths are relative, with slashes, and in natural order; those of folders end in one.

    `names` of the pictures; `skipped`: what is not read, by reason; `folders` that were searched.
    """

    names: list[str]
    skipped: dict[str, list[str]]
    folders: list[str]


class Lister:
    """Sorts paths into pictures and the reasons to skip them."""

    def __init__(self) -> None:
        self.names = list[str]()
        self.skipped = defaultdict[str, list[str]](list)
        self.folders = list[str]()

    def skip(self, reason: str, name: str) -> None:
        """Skip a path for a reason."""
        self.skipped[reason].append(name)

    def listing(self) -> Listing:
        """Return what was found, in natural order."""
        for names in (self.names, self.folders, *self.skipped.values()):
            sort_naturally(names)
        return Listing(self.names, {reason: self.skipped[reason] for reason in sorted(self.skipped)}, self.folders)


def natural(name: str) -> str:
    """Return a key that sorts paths part by part, and the numbers in them as numbers: 2 before 10.

    A string, since a million tuples would take much more memory. Paths that differ in leading zeros have equal keys.
    """
    return _NUMBER.sub(_with_length, name.replace("/", "\0"))


def sort_naturally(names: list[str]) -> None:
    """Sort paths in place: see `natural`."""
    names.sort()  # decides between equal keys, since the next sort is stable
    names.sort(key=natural)


def why_skipped(part: str) -> str | None:
    """Return why a file or folder of this name is no data, None if it may be."""
    lower = part.lower()
    if part == "__MACOSX" or part.startswith("._"):
        return FORKS
    if lower in _THUMBNAILS:
        return THUMBNAILS
    if part.startswith("."):
        return HIDDEN
    return SYSTEM if lower in _SYSTEM else None


def list_folder(place: Path) -> Listing:
    """Return the pictures below a folder, without an order of the file system in the result.

    Links to files are followed, and links to folders once. A file with the suffix of pictures is not opened; others
    are pictures if they begin like one. Raise DataError when the folder itself cannot be read.
    """
    walk = _Walk(place)
    while walk.pending or walk.links:  # `os.walk` calls itself, so it fails in deep folders
        if walk.pending:
            walk.folder(walk.pending.pop())
        else:  # links come last, so that what is reached through both belongs to the folder
            walk.links.sort(key=natural, reverse=True)
            walk.link(walk.links.pop())
    return walk.found.listing()


class _Walk:
    """A search in a folder."""

    def __init__(self, place: Path) -> None:
        self.place, self.found = place, Lister()
        self.real = os.path.realpath(place)
        self.pending, self.links = [""], list[str]()
        self.seen = set[tuple[int, int]]()

    def link(self, parent: str) -> None:
        """Search the folder that a link leads to, unless that would lead in a circle."""
        target = os.path.realpath(os.path.join(self.place, parent))
        if os.path.commonpath((target, self.real)) == target:
            self.found.skip(AGAIN, parent)
        else:
            self.folder(parent)

    def folder(self, parent: str) -> None:
        """Search one folder that was not searched before, and leave the folders in it to be searched."""
        here, run, folders, links = Lister(), set[str](), list[str](), list[str]()
        try:
            with os.scandir(os.path.join(self.place, parent)) as entries:
                status = os.stat(os.path.join(self.place, parent))
                if (identity := (status.st_dev, status.st_ino)) in self.seen:
                    self.found.skip(AGAIN, parent)
                    return
                self.seen.add(identity)
                for entry in entries:
                    if entry.name in RUN_FILES:
                        run.add(entry.name)
                    if self._is_folder(entry, parent, here):
                        (links if entry.is_symlink() else folders).append(f"{parent}{entry.name}/")
        except OSError as error:
            if not parent:
                raise DataError(
                    f"cannot read folder {self.place}: {error.strerror}",
                    "check that the folder exists and is readable, or name another",
                ) from error
            self.found.skip(_why_closed(error), parent)
            return
        if run == RUN_FILES:
            self.found.skip(RUNS, parent or "./")
            return
        self.pending += folders
        self.links += links
        self.found.names += here.names
        if parent:
            self.found.folders.append(parent)
        for reason, names in here.skipped.items():
            self.found.skipped[reason] += names

    def _is_folder(self, entry: os.DirEntry[str], parent: str, here: Lister) -> bool:
        """Return whether an entry is a folder to search; put others in their place in `here`."""
        name = parent + entry.name
        if reason := why_skipped(entry.name):
            here.skip(reason, f"{name}/" if entry.is_dir(follow_symlinks=False) else name)
        elif os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():  # is_dir raises for a circle of links
            return True
        elif not (os.path.isfile(entry) if entry.is_symlink() else entry.is_file()):
            here.skip(SPECIAL if os.path.exists(entry) else BROKEN_LINKS, name)
        elif has_picture_suffix(name):
            here.names.append(name)
        else:
            self._look_into(name, here)
        return False

    def _look_into(self, name: str, here: Lister) -> None:
        try:
            with regular(self.place / name) as file:
                is_picture = begins_like_a_picture(file, name)
        except OSError as error:
            here.skip(_why_closed(error), name)
            return
        if is_picture:
            here.names.append(name)
        else:
            here.skip(why_no_picture(name), name)


def empty_folders(folders: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the folders, with the slash at their ends, that have no picture at any depth."""
    full = set[str]()
    for name in names:
        while (name := name.rpartition("/")[0]) and f"{name}/" not in full:
            full.add(f"{name}/")
    return [folder for folder in folders if folder not in full]


def _why_closed(error: OSError) -> str:
    return CLOSED if isinstance(error, PermissionError) else UNREADABLE


def _with_length(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"0{chr(len(digits))}{digits}"  # a longer number is a greater one
