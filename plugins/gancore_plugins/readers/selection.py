"""Which of the listed pictures are used: a part of them, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np

from gancore.contracts import Split
from gancore.errors import DataError
from gancore.utils.files import some
from gancore_plugins.readers.labels import LABEL_FILES, Labels, read_labels
from gancore_plugins.readers.layout import SPLITS, Level, folder_below, held_out, unwrapped
from gancore_plugins.readers.listing import empty_folders, sort_naturally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gancore_plugins.readers.picture_files import PictureFiles


@dataclass(frozen=True)
class Rules:
    """How folders and names are read; see the fields of the dataset `folder`."""

    classes: bool
    labels: str | None
    splits: bool
    holdout: float


@dataclass(frozen=True)
class Selection:
    """Pictures of one part, with their labels: `values` (N,) int32 or (N, F) float32, None without labels.

    `classes`: their names, None without; `facts` and `notes`: see `Findings`; `divided`: whether pictures are held out.
    """

    files: PictureFiles
    values: NDArray[np.int32] | NDArray[np.float32] | None
    classes: tuple[str, ...] | None
    facts: Mapping[str, str]
    notes: Sequence[str]
    divided: bool


def select(files: PictureFiles, rules: Rules, split: Split) -> Selection:
    """Return the pictures of one part. Raise DataError for an empty part, or without labels."""
    return _Selector(files, rules).select(split)


def label_file(files: PictureFiles) -> str | None:
    """Return the label file at the top of the pictures, None without."""
    base = unwrapped(files.names).base
    others = {name for names in files.skipped.values() for name in names}
    return next((place + name for place in (base, "") for name in LABEL_FILES if place + name in others), None)


def training_level(files: PictureFiles, splits: bool) -> Level:
    """Return the level of the classes, if there are any: in the training part, if there are parts."""
    level = unwrapped(files.names)
    if splits and level.are_splits():
        first = next(folder for folder in level.folders if SPLITS[folder.lower()] == "train")
        return Level.below(f"{level.base}{first}/", files.names)
    return level


class _Selector:
    def __init__(self, files: PictureFiles, rules: Rules) -> None:
        self.files, self.rules = files, rules
        self.skipped = {reason: list(names) for reason, names in files.skipped.items()}
        self.facts, self.notes = dict[str, str](), list[str]()
        self.level = unwrapped(files.names)
        self.by_folder = rules.splits and self.level.are_splits()

    def select(self, split: Split) -> Selection:
        if self.by_folder and self.rules.holdout:
            raise DataError(
                f"{self.files.place} has the split folders {', '.join(self.level.folders)}, and holdout = "
                f"{self.rules.holdout:g} would hold out pictures again",
                "--set dataset.holdout=0, or --set dataset.splits=false",
            )
        table = self._read_table()
        names = self.files.names if table is None else table.names
        parts = self._parts(names)
        if self.by_folder:
            self._skip(f"outside of {' and '.join(self.level.folders)}", names, [part is None for part in parts])
        self._describe_parts(names, parts)
        chosen = [number for number, part in enumerate(parts) if part == split]
        if not chosen:
            raise self._empty(split, len(names))
        values: NDArray[np.int32] | NDArray[np.float32] | None = None
        classes: tuple[str, ...] | None = None
        if table is not None:
            values, classes = table.values[chosen], table.classes or None
        elif self.rules.classes:
            shared = dict[str, str]()  # a name for each picture would take as much memory as its path
            folders = [shared.setdefault(folder := self._class(name), folder) for name in names]
            trained = {folder for folder, part in zip(folders, parts, strict=True) if part == "train"}
            classes = self._class_names(trained)
            numbers = {name: number for number, name in enumerate(classes)}
            labels = np.array([numbers.get(folders[number], -1) for number in chosen], np.int32)
            self._skip_classless([names[number] for number in chosen], labels)
            chosen = [number for number, label in zip(chosen, labels, strict=True) if label >= 0]
            values = labels[labels >= 0]
        self._find_unused()
        selected = self.files.only([names[number] for number in chosen], self.skipped)
        return Selection(
            selected, values, classes, self.facts, self.notes, divided=self.by_folder or self.rules.holdout > 0
        )

    def _read_table(self) -> Labels | None:
        if self.rules.labels is None:
            return None
        table = read_labels(self.files, self.rules.labels)
        form = f"{len(table.classes):,} classes" if table.classes else f"vectors of {table.values.shape[1]} numbers"
        header = f", after the header {table.header}" if table.header else ""
        self.facts["labels"] = f"{self.rules.labels}: {form}{header}"
        if unused := len(table.classes) and len(table.classes) - len(np.unique(table.values)):
            what = "1 class number has" if unused == 1 else f"{unused:,} class numbers have"
            self.notes.append(f"{what} no picture in {self.rules.labels}")
        for reason in list(self.skipped):
            self.skipped[reason] = [name for name in self.skipped[reason] if name != self.rules.labels]
            if not self.skipped[reason]:
                del self.skipped[reason]
        labeled = set(table.names)
        self._skip(
            f"without a label in {self.rules.labels}", self.files.names, [n not in labeled for n in self.files.names]
        )
        if table.missing:
            what = "a picture that is" if len(table.missing) == 1 else f"{len(table.missing):,} pictures that are"
            self.notes.append(f"{self.rules.labels} has labels for {what} not there: {some(list(table.missing))}")
        if table.ambiguous:
            self.notes.append(f"{some(list(table.ambiguous))}: write the path in {self.rules.labels}")
        return table

    def _skip(self, reason: str, names: Sequence[str], flags: Sequence[bool]) -> None:
        if skipped := [name for name, flag in zip(names, flags, strict=True) if flag]:
            self.skipped[reason] = skipped

    def _parts(self, names: Sequence[str]) -> list[Split | None]:
        """Return the part that each picture belongs to, None if it is outside of all split folders."""
        if self.by_folder:
            return [SPLITS.get(folder_below(self.level.base, name).lower()) for name in names]
        return ["test" if held else "train" for held in held_out(names, self.rules.holdout).tolist()]

    def _describe_parts(self, names: Sequence[str], parts: Sequence[Split | None]) -> None:
        if self.by_folder:
            counts = {
                part: ", ".join(
                    f"{name} {count:,}" for name, count in self.level.folders.items() if SPLITS[name.lower()] == part
                )
                for part in ("train", "test")
            }
            self.facts["splits"] = f"train on {counts['train']}; held out: {counts['test']}"
        elif self.rules.holdout:
            self.facts["held out"] = f"{parts.count('test'):,} of {len(names):,} pictures, chosen by their names"

    def _empty(self, split: Split, count: int) -> DataError:
        place = self.files.place
        if self.by_folder:
            what = "pictures to train on" if split == "train" else "held-out pictures"
            return DataError(
                f"none of the {what} in {place} has a label in {self.rules.labels}",
                "--set dataset.splits=false reads the folders of all parts alike",
            )
        if self.rules.holdout:
            return DataError(f"{place} has {count} picture, of which none can be held out", "add pictures")
        return DataError(
            f"{place} has no held-out part: it has no folders such as train and test, and dataset.holdout is 0",
            "--set dataset.holdout=0.1",
        )

    def _class(self, name: str) -> str:
        """Return the class folder of a picture, empty without."""
        base = self.level.base
        if self.by_folder:
            base += f"{folder_below(base, name)}/"
        return folder_below(base, name)

    def _class_names(self, folders: set[str]) -> tuple[str, ...]:
        """Return the names of the class folders in natural order; the empty name is that of no folder."""
        classes = sorted(folders - {""})
        if not classes:
            raise DataError(
                f"classes are folders of pictures, and {self.files.place} has none",
                "make a folder for each class, or --set dataset.classes=false",
            )
        sort_naturally(classes)
        for name in classes:
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise DataError(
                    f"class folder {name!a} in {self.files.place} has a name that is not UTF-8", "rename it"
                ) from error
        bases = [self.level.base]
        if self.by_folder:
            bases = [
                f"{self.level.base}{folder}/" for folder in self.level.folders if SPLITS[folder.lower()] == "train"
            ]
        for folder in empty_folders(self.files.folders, self.files.names):
            for base in bases:
                if folder.startswith(base) and folder.count("/") == base.count("/") + 1:
                    self.notes.append(f"class folder {folder[:-1]} has no pictures, so it is not a class")
        return tuple(classes)

    def _skip_classless(self, names: Sequence[str], labels: NDArray[np.int32]) -> None:
        loose = [label < 0 and not self._class(name) for name, label in zip(names, labels, strict=True)]
        self._skip("outside of the class folders (read with dataset.classes = false)", names, loose)
        other = [label < 0 and not flag for label, flag in zip(labels, loose, strict=True)]
        self._skip("of classes without training pictures", names, other)

    def _find_unused(self) -> None:
        """Note what could be read in another way."""
        if self.rules.labels is None and (found := label_file(self.files)):
            try:
                read_labels(self.files, found)
                setting = quote(f"dataset.labels={found}")
                self.notes.append(f"{found} is not used; to train on its labels: --set {setting}")
            except DataError as error:
                self.notes.append(f"{found} is not used: {error.message}")
        parts = {SPLITS.get(folder.lower()) for folder in self.level.folders}
        if not self.by_folder and {"train", "test"} <= parts:
            others = [folder for folder in self.level.folders if folder.lower() not in SPLITS]
            why = f"since {some(others)} are there too" if others else "since dataset.splits = false"
            self.notes.append(f"the folders for training and testing are not read as splits, {why}")
