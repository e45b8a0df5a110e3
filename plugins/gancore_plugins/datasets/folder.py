"""The user's own pictures, in a folder or a zip archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from gancore.contracts import Dataset, Findings, Outline, Shape, Split
from gancore.errors import DataError
from gancore.utils.files import without_warnings
from gancore_plugins.datasets.decoding import upright_size
from gancore_plugins.datasets.picture_cache import PictureCache
from gancore_plugins.datasets.pictures import LONGEST_SIDE, PictureDataset, Pictures, findings_of
from gancore_plugins.readers.labels import read_labels
from gancore_plugins.readers.picture import picture
from gancore_plugins.readers.picture_files import PictureFiles, offered_pictures, picture_files
from gancore_plugins.readers.selection import Rules, Selection, label_file, select, training_level

if TYPE_CHECKING:
    from torch.utils.data import Dataset as TorchDataset

_SIZES = (64, 48, 32, 28, 24, 16)
"""Shorter sides that are chosen for pictures that reach them; networks can halve them at least twice."""
_SAMPLE = 64
"""Number of pictures whose headers are read to choose settings."""
_SAME_PROPORTIONS = 0.9
"""Share of the pictures that have the same proportions where a rectangle is chosen."""
_DISTORTION = 0.07
"""How far the proportions of a rectangle may be from those of the pictures; what is too much is cropped."""
_GRAY = {"1", "L", "I", "I;16", "I;16B", "I;16L", "F"}
"""Pillow's modes of gray pictures."""


class Folder(PictureDataset):
    """Pictures of a folder or zip archive, decoded once to one size and cached for later runs.

    The cache is in the folder that `--data-dir` names. It is built again when a picture or a setting changes.
    """

    name = "folder"
    path: str = Field(description="folder or zip archive of pictures, searched with its subfolders; or one picture")
    classes: bool = Field(default=False, description="whether subfolders are classes")
    labels: str | None = Field(
        default=None,
        description="file below `path` with a class or numbers for each picture: CSV, or dataset.json; absent: none",
    )
    splits: bool = Field(
        default=True, description="whether folders such as train and test are parts of the data, the latter held out"
    )
    holdout: float = Field(
        default=0.0, ge=0.0, le=0.5, description="share of the pictures to hold out, chosen by their names"
    )
    split: Split = Field(default="train", description="the part for training, or the one that is held out")
    mirrors: bool = Field(default=False, description="whether augmentations may mirror the pictures")

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        for name in (self.path, self.labels or ""):
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"the name {name!a} is not UTF-8, so a config cannot hold it; rename it") from error
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.classes and self.labels is not None:
            raise ValueError("classes are read from folders or from a label file: leave out classes or labels")
        return self

    def prepare(self, root: Path) -> Iterator[float]:
        _, cache, measured = self._caches(root)
        share = 0.0
        if measured is not cache:
            share = 0.5
            for done in measured.build():
                yield share * done
        for done in self.decoded([cache]):
            yield share + (1 - share) * done

    def build(self, root: Path) -> TorchDataset[Any]:  # Any: (image, label), or an image alone
        selection, cache, measured = self._caches(root)
        rows = self.rows([cache])
        for _ in measured.build(retry=False):
            pass
        labels, classes = selection.values, selection.classes
        if labels is not None and rows is not None:
            if classes and (lost := sorted(set(labels.tolist()) - set(labels[rows].tolist()))):
                raise DataError(
                    f"no picture of class {classes[lost[0]]} in {selection.files.place} can be read",
                    "replace its pictures, or remove its folder",
                )
            labels = labels[rows]
        return Pictures(
            cache.path,
            labels=labels,
            classes=classes,
            mirrors=self.mirrors,
            rows=rows,
            value_range=self.range_of(measured),
            names=lambda: self._select().files.names,
        )

    @classmethod
    def from_path(cls, path: Path, shape: Shape | None = None) -> Self | None:
        if shape is not None and (len(shape) != 3 or shape[0] not in (1, 3, 4)):
            return None
        if (files := offered_pictures(path)) is None:
            return None
        level = training_level(files, splits=True)
        labels = label_file(files)
        if labels is not None:
            try:
                read_labels(files, labels)
            except DataError:  # `findings` says why it is not used
                labels = None
        settings: dict[str, Any] = {"path": str(path), "labels": labels}  # Any: values of fields
        settings["classes"] = labels is None and level.are_classes()
        if shape is not None:
            settings |= {"channels": shape[0], "size": shape[1:]}
        else:
            names = [name for name in files.names if name.startswith(level.base)]
            settings |= _fitting(files, _spread(names))
        return cls(**settings)

    def outline(self) -> Outline:
        selection = self._select()
        names = selection.files.names
        original = (self.channels, *_usual_size(selection.files, _spread(names), self.sides))
        return Outline(len(names), (self.channels, *self.sides), selection.classes or (), original)

    def findings(self, root: Path) -> Findings:
        selection, cache, measured = self._caches(root)
        decoded = findings_of(cache, selection.files.skipped, self.range_of(measured), found_bits=self.finds_bits)
        return replace(decoded, facts={**decoded.facts, **selection.facts}, notes=[*selection.notes, *decoded.notes])

    def part(self, split: Split) -> Dataset | None:
        try:
            divided = self.holdout > 0 or self._select().divided
        except DataError:  # `build` reports it
            return None
        return self.model_copy(update={"split": split}) if divided else None

    def _caches(self, root: Path) -> tuple[Selection, PictureCache, PictureCache]:
        """Return the pictures of this part, their cache, and the cache whose values are the range of 16 bits.

        The pictures that are trained on set the bits and the range of a held-out part too.
        """
        selection = self._select()
        trained = selection.files if self.split == "train" else self._select("train").files
        bits = self.bits_of(trained)
        cache = self.cache(root, selection.files, bits=bits)
        measures = bits == 16 and self.value_range is None and trained is not selection.files
        return selection, cache, self.cache(root, trained, bits=bits) if measures else cache

    def _select(self, split: Split | None = None) -> Selection:
        """Return the pictures of a part, by default this one.

        Raise DataError without pictures, or without labels as asked for.
        """
        path = Path(self.path).expanduser()
        if not path.exists():
            raise DataError(f"there is no folder or archive {path}", "--set dataset.path=FOLDER")
        rules = Rules(self.classes, self.labels, self.splits, self.holdout)
        return select(picture_files(path), rules, split or self.split)


def _spread(names: Sequence[str]) -> Sequence[str]:
    """Return names from all parts of a list, at most 64."""
    return [names[number * len(names) // _SAMPLE] for number in range(_SAMPLE)] if len(names) > _SAMPLE else names


def _usual_size(files: PictureFiles, names: Sequence[str], default: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width that more than half of some pictures have, from their headers; else the default."""
    sizes = Counter[tuple[int, int]]()
    for name in names:
        with suppress(DataError), without_warnings(), picture(files, name, verify=False) as opened:
            width, height = upright_size(opened)
            sizes[height, width] += 1
    size, count = sizes.most_common(1)[0] if sizes else (default, 0)
    return size if 2 * count > len(names) and max(size) <= LONGEST_SIDE else default


def _fitting(files: PictureFiles, names: Sequence[str]) -> dict[str, Any]:  # Any: values of fields
    """Return the channels and the size that fit most of some pictures, from their headers.

    The size is a rectangle if nearly all have the same proportions and are not squares.
    """
    sizes, colors = list[tuple[int, int]](), 0
    for name in names:
        with suppress(DataError), without_warnings(), picture(files, name, verify=False) as opened:
            colors += opened.mode not in _GRAY
            sizes.append(upright_size(opened))
    sides = [min(size) for size in sizes]
    side = next((size for size in _SIZES if 2 * sum(side >= size for side in sides) >= max(1, len(sides))), _SIZES[-1])
    return {"channels": 1 if sides and not colors else 3, "size": _rectangle(sizes, side) or side}


def _rectangle(sizes: Sequence[tuple[int, int]], side: int) -> tuple[int, int] | None:
    """Return height and width, with this shorter side, if nearly all sizes (width, height) have these proportions.

    The longer side can be halved as often as the shorter one, so it may differ a little from the proportions. None for
    squares, and for pictures that are very long.
    """
    if not sizes:
        return None
    ratio, count = Counter(Fraction(width, height) for width, height in sizes).most_common(1)[0]
    if ratio == 1 or count < _SAME_PROPORTIONS * len(sizes):
        return None
    exact, step = side * max(ratio, 1 / ratio), 1 << ((side // 4).bit_length() - 1)
    longer = round(exact / step) * step
    if longer == side or longer > 4 * side or abs(longer / exact - 1) > _DISTORTION:
        return None
    return (side, longer) if ratio > 1 else (longer, side)
