"""What the folders of pictures mean: a wrapper around them, splits, and classes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gancore.contracts import Split
from gancore_plugins.readers.listing import sort_naturally

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "test",
    "valid": "test",
    "validation": "test",
    "test": "test",
    "testing": "test",
}
"""Names of folders that hold a part of the data, in lower case."""


@dataclass(frozen=True)
class Level:
    """The folders directly below one: `folders` with the number of pictures in each, at any depth; and `loose` ones.

    `base` is the path of the folder, which ends in a slash or is empty.
    """

    base: str
    folders: dict[str, int]
    loose: int

    @classmethod
    def below(cls, base: str, names: Iterable[str]) -> Level:
        """Count the pictures whose names begin with `base`."""
        counts = Counter(folder_below(base, name) for name in names if not base or name.startswith(base))
        loose = counts.pop("", 0)
        ordered = list(counts)
        sort_naturally(ordered)
        return cls(base, {folder: counts[folder] for folder in ordered}, loose)

    def are_classes(self) -> bool:
        """Return whether the folders look like classes: there are several, with at least half of the pictures."""
        return len(self.folders) >= 2 and sum(self.folders.values()) >= self.loose

    def are_splits(self) -> bool:
        """Return whether the folders are a training part and held-out parts, and nothing else."""
        return {SPLITS.get(folder.lower()) for folder in self.folders} == {"train", "test"}


def folder_below(base: str, name: str) -> str:
    """Return the folder directly below `base` that a picture is in, empty for a picture that is in none."""
    end = name.find("/", len(base))
    return name[len(base) : end] if end >= 0 else ""


def unwrapped(names: Sequence[str]) -> Level:
    """Return the level of the classes or splits: below folders that hold everything, as in many archives.

    Without classes or splits there, it is the top.
    """
    top = level = Level.below("", names)
    while len(level.folders) == 1 and not level.loose:
        level = Level.below(f"{level.base}{next(iter(level.folders))}/", names)
        if level.are_classes() or level.are_splits():
            return level
    return top


def held_out(names: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Return which pictures are held out (N,): about this share in 0..1, at least one of several, and not all.

    The digest of each name decides about it, so pictures that are added later hardly change the part of the others.
    """
    if not share:
        return np.zeros(len(names), np.bool_)
    digests = np.fromiter(map(_digest, names), np.uint64, len(names))
    chosen: NDArray[np.bool_] = digests < share * 2.0**64
    chosen[digests.argmin()] = True
    chosen[digests.argmax()] = False
    return chosen


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])
