"""Datasets of the user's pictures: their fields, their items, and what is found in the files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Dataset, Findings
from gancore.errors import DataError
from gancore_plugins.datasets.decoding import Half, PictureFormat, Pixels
from gancore_plugins.datasets.deep import any_is_deep
from gancore_plugins.datasets.picture_cache import PictureCache, check_readable
from gancore_plugins.readers.picture import MAX_PIXELS
from gancore_plugins.readers.picture_files import PictureFiles

PictureLabels = NDArray[np.int32] | NDArray[np.float32]
LONGEST_SIDE = 4096
"""The largest height and width of a decoded picture."""
_SAMPLED = 64
"""Pictures whose bits are looked at to choose those of the data."""
_NOTED_CUT = 0.15
"""The mean share from which on it is noted that cropping cuts it off; of 4:3 in a square it is 25 %."""
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]


class PictureDataset(Dataset):
    """Fields of datasets of the user's pictures."""

    path: str = Field(description="where the pictures are")
    size: Side | tuple[Side, Side] = Field(
        default=64, description="height and width in pixels: a number for squares, or [height, width]"
    )
    channels: Literal[1, 3, 4] = Field(default=3, description="gray, color, or color with transparency")
    fit: Literal["crop", "pad", "stretch"] = Field(
        default="crop",
        description="how a picture of other proportions fits: crop the long side, pad the short side, or stretch",
    )
    bits: Literal[8, 16] | None = Field(
        default=None, description="bits per channel; absent: 16 if any of 64 of the pictures has more than 8"
    )
    value_range: tuple[float, float] | None = Field(
        default=None,
        description="values that networks see as -1 and 1, for 16 bits; absent: the lowest and highest in the data",
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop", description="what unreadable pictures do: stop with a list of them, or be left out"
    )
    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, le=178_000_000, description="larger pictures are refused before they are decoded"
    )

    @field_validator("size", mode="before")
    @classmethod
    def _check_size(cls, size: object) -> object:
        sides = size if isinstance(size, list | tuple) else (size, size)
        if len(sides) != 2 or not all(type(side) is int and 1 <= side <= LONGEST_SIDE for side in sides):
            raise ValueError(f"must be a number of pixels from 1 to {LONGEST_SIDE}, or two: [height, width]")
        return sides[0] if sides[0] == sides[1] else tuple(sides)

    @model_validator(mode="after")
    def _check_value_range(self) -> Self:
        if self.value_range is not None:
            low, high = self.value_range
            if not -math.inf < low < high < math.inf:
                raise ValueError(f"value_range must be two finite numbers, the lower one first; received {low}, {high}")
            if self.bits == 8:
                raise ValueError("value_range is for pictures with 16 bits; with bits = 8 it is always 0..255")
        return self

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    @property
    def finds_bits(self) -> bool:
        """Whether the bits are chosen by the pictures, and may be set to 8."""
        return self.bits is None and self.value_range is None

    def found_bits(self, files: PictureFiles) -> Literal[8, 16]:
        """Return the bits per channel for these pictures: those that are set, or else that they have."""
        return self.bits or (16 if any_is_deep(files, _SAMPLED) else 8)

    def bits_of(self, files: PictureFiles) -> Literal[8, 16]:
        """Return the bits as `found_bits` does. Raise DataError if `value_range` has no effect on these pictures."""
        bits = self.found_bits(files)
        if bits == 8 and self.value_range is not None:
            raise DataError(
                f"dataset.value_range is for pictures with 16 bits; those in {files.place} have 8",
                "remove dataset.value_range, or --set dataset.bits=16",
            )
        return bits

    def cache(
        self,
        root: Path,
        files: PictureFiles,
        *,
        bits: Literal[8, 16],
        channels: int | None = None,
        half: Half | None = None,
    ) -> PictureCache:
        """Return the cache of these pictures below `root`."""
        form = PictureFormat(self.sides, channels or self.channels, self.fit, self.max_pixels, half, bits)
        return PictureCache.in_folder(root / "folders", files, form)

    def decoded(self, caches: Sequence[PictureCache]) -> Iterator[float]:
        """Decode the pictures of caches of one length; yield the share that is done. Raise DataError: `on_error`."""
        for number, cache in enumerate(caches):
            for done in cache.build():
                yield (number + done) / len(caches)
        check_readable(caches, skip=self.on_error == "skip")

    def rows(self, caches: Sequence[PictureCache]) -> NDArray[np.intp] | None:
        """Return the rows of the items in the caches, None for all; decode pictures unless `decoded` did.

        Raise DataError as `on_error` says.
        """
        for cache in caches:
            # Left-out pictures are not tried again, so that all processes of a run have the same items.
            for _ in cache.build(retry=self.on_error == "stop"):
                pass
        return check_readable(caches, skip=self.on_error == "skip")

    def range_of(self, cache: PictureCache) -> tuple[float, float] | None:
        """Return the range of the values with 16 bits, declared or measured; None for 8 bits."""
        if cache.form.bits == 8:
            return None
        index = cache.index()
        return self.value_range or (index.value_range if index is not None else None)


class Pictures(TorchDataset[Any]):  # Any: (image, label), or an image alone
    """Items (image, label), or images alone, of a memory-mapped array.

    An image (C, H, W) is uint8; or float32, if the array is uint16.
    """

    def __init__(
        self,
        path: Path,
        *,
        labels: PictureLabels | None = None,  # classes (N,) or vectors (N, F), of the items
        classes: tuple[str, ...] | None = None,
        mirrors: bool = False,
        rows: NDArray[np.intp] | None = None,  # (N,), of the items in the array; None: all
        value_range: tuple[float, float] | None = None,  # of uint16
        names: Callable[[], Sequence[str]] | None = None,  # lists the pictures of the rows; they are not kept in memory
    ) -> None:
        self._images: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        self._path, self.labels, self.mirrors, self._rows = path, labels, mirrors, rows
        self._list_names, self._names = names, list[str]()
        if classes is not None:
            self.classes = classes
        if value_range is not None:
            self.value_range = value_range

    def __getstate__(self) -> dict[str, Any]:  # Any: attributes
        """Pickle the path in place of the array, so that each worker of a data loader maps the file itself."""
        return {key: value for key, value in vars(self).items() if key not in ("_images", "_list_names")}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: attributes
        vars(self).update(state)
        self._list_names = None
        self._images = np.load(self._path, mmap_mode="r", allow_pickle=False)

    def name_of(self, index: int) -> str:
        """Return the path of the picture of an item, in the process that built the dataset; they are listed again."""
        if not self._names and self._list_names is not None:
            self._names = list(self._list_names())
        return self._names[index if self._rows is None else int(self._rows[index])]

    def __len__(self) -> int:
        return len(self._images) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int | Tensor]:
        pixels = self._images[index if self._rows is None else self._rows[index]]
        image = torch.from_numpy(pixels.copy() if pixels.dtype == np.uint8 else pixels.astype(np.float32))
        if self.labels is None:
            return image
        label = self.labels[index]
        return image, torch.from_numpy(label.copy()) if isinstance(label, np.ndarray) else int(label)


def findings_of(
    cache: PictureCache,
    skipped: Mapping[str, Sequence[str]],
    value_range: tuple[float, float] | None,
    *,
    found_bits: bool = False,  # whether the bits were chosen by the pictures
) -> Findings:
    """Return what is known of the pictures of a cache; nothing is decoded for it."""
    names, index = cache.files.names, cache.index()
    if index is None:
        return Findings({"pictures": names}, skipped)
    used = {
        name: [names[row] for row in np.flatnonzero(index.decoded & (index.rows["format"] == number)).tolist()]
        for number, name in enumerate(index.formats)
    }
    unreadable, facts, notes = dict[str, list[str]](), dict[str, str](), list[str]()
    for row, why in sorted(index.reasons.items()):
        unreadable.setdefault(f"unreadable ({_kind(why)})", []).append(names[row])
    skipped = {**skipped, **unreadable}
    rows = index.rows[index.decoded]
    if not len(rows):
        return Findings({}, skipped, facts, notes)
    order = np.argsort(rows["width"].astype(np.int64) * rows["height"], kind="stable")
    smallest, median, largest = (
        "{}x{}".format(*rows[place][["width", "height"]]) for place in (order[0], order[len(order) // 2], order[-1])
    )
    height, width = cache.form.size
    cut = _share_cut_off(rows["width"].astype(float), rows["height"].astype(float), width / height)
    if cache.form.fit == "crop" and cache.form.half is None and cut >= _NOTED_CUT:
        notes.append(
            f"{cut:.0%} of a picture is cut off on average, since pictures have other proportions than "
            f"{width}x{height}: --set dataset.fit=pad keeps all of it, --set dataset.size=[HEIGHT,WIDTH] has other "
            "proportions"
        )
    facts["sizes"] = (
        f"all {smallest}" if smallest == largest else f"{smallest} to {largest}, median {median}"
    ) + f" (width x height); {width}x{height} after decoding"
    if transparent := int(rows["transparent"].sum()):
        kept = "kept" if cache.form.channels == 4 else "placed on white"
        facts["transparency"] = f"{transparent} of {len(rows)}, {kept}"
    deep = int(rows["deep"].sum())
    if cache.form.bits == 16:
        facts["bits"] = "16" if deep == len(rows) else f"16; {len(rows) - deep} of {len(rows)} have 8 and are scaled"
        if found_bits and 0 < 2 * deep < len(rows):
            notes.append(
                f"{deep} of {len(rows)} pictures {'has' if deep == 1 else 'have'} more than 8 bits per channel, so all "
                "are stored with 16: --set dataset.bits=8 stores all with 8"
            )
    elif deep:
        facts["bits"] = f"8; {deep} of {len(rows)} pictures have more and are scaled"
        notes.append(f"{deep} pictures have more than 8 bits per channel; to keep them: --set dataset.bits=16")
    if value_range is not None:
        facts["value range"] = "{:g} to {:g}".format(*value_range)
    resized = int(((rows["width"] != width) | (rows["height"] != height)).sum())
    return Findings(used, skipped, facts, notes, resized)


def _share_cut_off(widths: NDArray[np.float64], heights: NDArray[np.float64], ratio: float) -> float:
    """Return the mean share of pictures (N,) that cropping to width / height = `ratio` cuts off."""
    ratios = widths / heights / ratio
    return 1 - float(np.minimum(ratios, 1 / ratios).mean())


_KINDS = {
    " is empty": "empty",
    " has the suffix ": "no picture",
    "dataset.max_pixels": "too large",
    " needs a decoder": "no decoder",
    "save ": "unsupported",
}
"""Short names of reasons, by a part of them."""


def _kind(why: str) -> str:
    return next((kind for part, kind in _KINDS.items() if part in why), "damaged")
