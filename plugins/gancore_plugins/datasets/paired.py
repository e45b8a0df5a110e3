"""Pairs of pictures, for generators that translate one picture into another (pix2pix)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field
from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Findings, Outline
from gancore.errors import DataError
from gancore.utils.files import some
from gancore_plugins.datasets.deep import MOST
from gancore_plugins.datasets.picture_cache import PictureCache
from gancore_plugins.datasets.pictures import PictureDataset, Pictures, findings_of
from gancore_plugins.readers.picture_files import PictureFiles, picture_files

if TYPE_CHECKING:
    from torch import Tensor


class Paired(PictureDataset):
    """Pairs of pictures: a target to generate, and an input, the condition; in two folders, or side by side in one.

    In two folders, pictures with the same path below them, apart from the suffix, are a pair. Both are decoded once to
    one size, and cached for later runs in the folder that `--data-dir` names.
    """

    name = "paired"
    path: str = Field(default=".", description="folder that holds both folders, or the pictures side by side")
    inputs: str = Field(default="inputs", description="folder of the inputs: below `path`, or an absolute path")
    targets: str = Field(default="targets", description="folder of the targets: below `path`, or an absolute path")
    side_by_side: Literal["left", "right"] | None = Field(
        default=None, description="each picture below `path` is a pair, and this half the input; absent: two folders"
    )
    channels: Literal[1, 3, 4] = Field(default=3, description="of targets: gray, color, or color with transparency")
    input_channels: Literal[1, 3, 4] | None = Field(
        default=None, description="of inputs: gray, color, or color with transparency; absent: as `channels`"
    )

    def prepare(self, root: Path) -> Iterator[float]:
        yield from self.decoded(self._caches(root))

    def build(self, root: Path) -> Pairs:
        caches = self._caches(root)
        rows = self.rows(caches)
        targets, inputs = (Pictures(cache.path, rows=rows, value_range=self.range_of(cache)) for cache in caches)
        return Pairs(targets, inputs, self._input_range)

    def outline(self) -> Outline:
        return Outline(len(self._files()[0].names), (self.channels, *self.sides))

    def findings(self, root: Path) -> Findings:
        caches = self._caches(root)
        ranges = self.range_of(caches[0]), self._input_range if caches[1].form.bits == 16 else None
        found = [
            findings_of(cache, cache.files.skipped, shown, found_bits=self.finds_bits)
            for cache, shown in zip(caches, ranges, strict=True)
        ]
        notes = [*(note for each in found for note in each.notes), *self._range_notes(caches)]
        if self.side_by_side is not None:
            return replace(found[0], notes=list(dict.fromkeys(notes)))
        used, skipped, facts = dict[str, list[str]](), dict[str, list[str]](), dict[str, str]()
        for what, each, cache, other in zip(("targets", "inputs"), found, caches, reversed(caches), strict=True):
            index = other.index()
            lost = set[str]() if index is None else {cache.files.names[row] for row in index.reasons}
            for reason, names in each.used.items():
                used.setdefault(reason, []).extend(f"{what}/{name}" for name in names if name not in lost)
                if alone := [f"{what}/{name}" for name in names if name in lost]:
                    skipped.setdefault("without a readable partner", []).extend(alone)
            for reason, names in each.skipped.items():
                skipped.setdefault(reason, []).extend(f"{what}/{name}" for name in names)
            facts |= {f"{fact} of {what}": text for fact, text in each.facts.items()}
        return Findings(used, skipped, facts, notes, found[0].resized)

    @property
    def _input_range(self) -> tuple[float, float]:
        """The values of inputs with 16 bits that networks see as -1 and 1. They do not depend on the data."""
        return self.value_range or (0.0, float(MOST))

    def _range_notes(self, caches: Sequence[PictureCache]) -> Iterator[str]:
        """Yield a note if all values with 16 bits are in a small part of the range that inputs are mapped from."""
        ranges = [self.range_of(cache) for cache in caches]
        known = [each for each in ranges if each is not None]
        low, high = min((each[0] for each in known), default=0), max((each[1] for each in known), default=MOST)
        if ranges[1] is not None and self.value_range is None and high - low < MOST / 2:
            yield (
                f"inputs are mapped from 0..{MOST}, and all values are in {low:g}..{high:g}; for more contrast: "
                f"--set 'dataset.value_range=[{low:g}, {high:g}]'"
            )

    def _files(self) -> tuple[PictureFiles, PictureFiles]:
        """Return the pictures of targets and inputs. Raise DataError for those without a partner."""
        path = Path(self.path).expanduser()
        if self.side_by_side is not None:
            files = _listed(path)
            return files, files
        if path.is_file():
            raise DataError(
                f"{path} is a file, and pairs are read from two folders",
                "unpack it, or --set dataset.side_by_side=left if each picture in it holds a pair",
            )
        return _matched(*(_listed(path / Path(name).expanduser()) for name in (self.targets, self.inputs)))

    def _caches(self, root: Path) -> tuple[PictureCache, PictureCache]:
        """Return the caches of targets and inputs. Raise DataError for pictures without a partner.

        Also raise it for a `value_range` with inputs of 8 bits: the inputs of samples would be mapped from it.
        """
        targets, inputs = self._files()
        bits = self.found_bits(inputs)
        if bits == 8 and self.value_range is not None:
            raise DataError(
                f"dataset.value_range is for pairs whose inputs have 16 bits; those in {inputs.place} have 8",
                "remove dataset.value_range; the range of targets with 16 bits is measured",
            )
        half: Literal["left", "right"] | None = self.side_by_side
        other: Literal["left", "right"] | None = half and ("left" if half == "right" else "right")
        return (
            self.cache(root, targets, bits=self.found_bits(targets), half=other),
            self.cache(root, inputs, bits=bits, channels=self.input_channels, half=half),
        )


class Pairs(TorchDataset[Any]):  # Any: (target, input)
    """Items (target, input) of two lists of pictures, both (C, H, W): uint8; or float32, for 16 bits.

    Conditions of float32 are not mapped by the feed, so inputs are mapped from `input_range` to [-1, 1] here.
    """

    def __init__(self, targets: Pictures, inputs: Pictures, input_range: tuple[float, float]) -> None:
        self.targets, self.inputs, self._input_range = targets, inputs, input_range
        if hasattr(targets, "value_range"):
            self.value_range = targets.value_range

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        target, given = cast("Tensor", self.targets[index]), cast("Tensor", self.inputs[index])  # neither has labels
        if given.is_floating_point():
            low, high = self._input_range
            given = (given - low) * (2 / (high - low)) - 1
        return target, given


def _listed(path: Path) -> PictureFiles:
    if not path.exists():
        raise DataError(
            f"folder {path} does not exist",
            "--set dataset.path=FOLDER, with the folders `inputs` and `targets`, or set dataset.inputs and "
            "dataset.targets",
        )
    return picture_files(path)


def _matched(targets: PictureFiles, inputs: PictureFiles) -> tuple[PictureFiles, PictureFiles]:
    """Return the pictures in both places, pair by pair. Raise DataError for one without a partner."""
    of_targets, of_inputs = _by_stem(targets), _by_stem(inputs)
    problems = []
    for place, own, other_place, other in (
        (targets.place, of_targets, inputs.place, of_inputs),
        (inputs.place, of_inputs, targets.place, of_targets),
    ):
        if alone := [name for stem, name in own.items() if stem not in other]:
            problems.append(f"{len(alone)} of {len(own)} in {place} have no partner in {other_place}: {some(alone)}")
    if problems:
        raise DataError(
            f"every picture needs a partner of the same name; {'; '.join(problems)}", "add the partners, or remove them"
        )
    return targets, inputs.only([of_inputs[stem] for stem in of_targets], inputs.skipped)


def _by_stem(files: PictureFiles) -> dict[str, str]:
    """Return the names of pictures by their names without suffix."""
    found: dict[str, str] = {}
    for name in files.names:
        stem = os.path.splitext(name)[0]
        if stem in found:
            raise DataError(
                f"{found[stem]} and {name} in {files.place} differ only in the suffix, so pairs are ambiguous",
                "rename one of them",
            )
        found[stem] = name
    return found
