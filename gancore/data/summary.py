"""What was understood of a dataset: its items, classes and files, in lines for people and as plain data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gancore.contracts import Condition, Dataset, Findings, Shape
from gancore.data.feed import Feed
from gancore.errors import blame
from gancore.utils.sample_format import SampleFormat

FEW = 100
"""A dataset with fewer items than this is reported as small."""
UNBALANCED = 10.0
"""Classes are reported as unbalanced if the largest has more than this times the items of the smallest."""
_MANY_COPIES = 0.1
"""The share of items that are copies of others, above which it is reported."""
_MANY_PLAIN = 0.005
"""The share of pictures of one color, above which it is reported."""
_BYTES_PER_READ = 1 << 26
_MOST_ITEMS_PER_READ = 4096
_QUICK_BYTES = 1 << 28
"""Data in memory of at most this size is read in full before training, to find copies."""
_DIGEST = 16  # bytes
_NAMED = 12
"""The most classes that a line names."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What was measured by reading all items once.

    `lowest` and `highest` stored value; `counts` of the classes, None without classes; `copies`: groups of the numbers
    of items whose samples are equal; `plain`: how many pictures have one color, and nothing else, and `plain_copies`
    how many of these are copies of an earlier one.
    """

    lowest: float
    highest: float
    counts: tuple[int, ...] | None
    copies: Sequence[Sequence[int]]
    plain: int = 0
    plain_copies: int = 0

    @property
    def extra(self) -> int:
        """The number of items that are copies of an earlier one."""
        return sum(len(group) - 1 for group in self.copies)


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What is known of a dataset: `held_out` says what is not trained on; `contents` is there if all was read."""

    name: str
    items: int
    shape: Shape
    format: SampleFormat
    condition: Condition | None
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] | None = None
    held_out: str | None = None
    findings: Findings = field(default_factory=Findings)
    contents: Contents | None = None

    @property
    def imbalance(self) -> float | None:
        """The size of the largest class over that of the smallest; None without counts."""
        if not self.class_counts:
            return None
        smallest = min(self.class_counts)
        return max(self.class_counts) / smallest if smallest else math.inf

    def lines(self) -> list[str]:
        """Return 1 to 3 lines: the samples, the classes if there are any, the part that is held out."""
        return [
            f"samples: {self.samples_line()}",
            *([f"classes: {class_line(self.classes, self.class_counts)}"] if self.classes else []),
            *([f"held out: {self.held_out}"] if self.held_out else []),
        ]

    def samples_line(self) -> str:
        """Return the number of samples, their shape, type and range as far as it is known, and what networks see."""
        values = (self.contents.lowest, self.contents.highest) if self.contents else self.format.value_range
        stored = self.format.dtype + (f" in {values[0]:g}..{values[1]:g}" if values else "")
        unbounded = "the values as they are" if self.format.scales is None else "them standardized"
        seen = "-1..1" if self.format.bounded else unbounded
        return f"{self.items:,} of {describe_shape(self.shape)}, {stored}; networks see {seen}"

    def warnings(self, *, conditional: bool = True, augmented: bool = False) -> list[str]:
        """Return what is unusual about the data, one line each; unbalanced classes only of a conditional run.

        An augmentation is advised unless the run is `augmented`.
        """
        found = []
        if self.items < FEW:
            found.append(
                f"the dataset has only {_count(self.items, 'sample')}, which a GAN can memorize: use more data"
                + ("" if augmented else ", or an augmentation (gancore list augmentation)")
            )
        plain = self.contents.plain if self.contents else 0
        if plain > _MANY_PLAIN * self.items:
            fix = "leave them out"
            if "transparency" in self.findings.facts and self.shape[0] != 4:
                fix = f"white on transparency is lost on white: --set dataset.channels=4 keeps both, or {fix}"
            found.append(f"{plain:,} of {_count(self.items, 'picture')} have one color and nothing else: {fix}")
        extra = self.contents.extra - self.contents.plain_copies if self.contents else 0
        if extra > _MANY_COPIES * self.items:
            found.append(
                f"{extra:,} of {_count(self.items, 'sample')} are exact copies of others, so they count several "
                "times: remove the copies, which `gancore data --json` lists"
            )
        imbalance = self.imbalance
        if conditional and imbalance is not None and imbalance > UNBALANCED and self.class_counts:
            largest, smallest = (self.class_counts.index(extreme(self.class_counts)) for extreme in (max, min))
            found.append(
                f"the classes are unbalanced: {self.class_counts[largest]:,} of {self.classes[largest]}, "
                f"{self.class_counts[smallest]:,} of {self.classes[smallest]}; small classes are seen rarely: add "
                "to them, or remove from the large ones"
            )
        return found

    def to_data(self) -> dict[str, Any]:  # Any: JSON
        """Return the numbers and the names of classes as plain data, without names of files."""
        condition = list(self.condition) if isinstance(self.condition, tuple) else self.condition
        value_range = self.format.value_range
        data: dict[str, Any] = {
            "dataset": self.name,
            "items": self.items,
            "used": {kind: len(names) for kind, names in self.findings.used.items()},
            "skipped": {reason: len(names) for reason, names in self.findings.skipped.items()},
            "shape": list(self.shape),
            "dtype": self.format.dtype,
            "value_range": None if value_range is None else list(value_range),
            "condition": condition,
            "classes": [
                {"name": name, "count": self.class_counts[number] if self.class_counts else None}
                for number, name in enumerate(self.classes)
            ],
            "held_out": self.held_out,
        }
        if self.contents:
            data["copies"] = self.contents.extra
        return data


def summarize(
    feed: Feed, dataset: Dataset, findings: Findings | None = None, contents: Contents | None = None
) -> DataSummary:
    """Return what is known of the items of a feed, which are those of `dataset`."""
    return DataSummary(
        dataset.name,
        feed.size,
        feed.shape,
        feed.format,
        feed.condition,
        feed.classes,
        contents.counts if contents else feed.class_counts,
        held_out_part(dataset),
        findings or Findings(),
        contents,
    )


def summarize_quickly(feed: Feed, dataset: Dataset, findings: Findings | None = None) -> DataSummary:
    """Return what is known of the items of a feed; they are all read only if that takes less than about a second."""
    contents = None
    if feed.is_in_memory and feed.item_bytes * feed.size <= _QUICK_BYTES:
        reading = read_contents(feed)
        while contents is None:
            try:
                next(reading)
            except StopIteration as done:
                contents = done.value
    return summarize(feed, dataset, findings, contents)


def held_out_part(dataset: Dataset) -> str | None:
    """Return how the part is described that evaluation compares with; None if nothing is held out from training."""
    with blame(f"dataset {dataset.name!r}", "to describe its test part"):
        held_out = dataset.part("test")
        if held_out is None or held_out == dataset or dataset.part("train") != dataset:
            return None
        outline = held_out.outline()
        return "the test part" if outline is None else f"the test part, {_count(outline.items, 'sample')}"


def read_contents(feed: Feed) -> Generator[float, None, Contents]:
    """Read all items once, in chunks of bounded size; yield the share that is done, and return what was measured.

    Memory for N items is 16 N bytes and one chunk. Raises DataError for items that break the contract.
    """
    first, _ = feed.read(torch.arange(1))
    per_read = max(1, min(_MOST_ITEMS_PER_READ, _BYTES_PER_READ // first.nbytes))
    digests = np.empty((feed.size, 2), np.uint64)
    counts = torch.zeros(len(feed.classes), dtype=torch.int64) if feed.classes else None
    lowest, highest, plain = math.inf, -math.inf, list[int]()
    for start in range(0, feed.size, per_read):
        items = torch.arange(start, min(start + per_read, feed.size))
        samples, conditions = feed.read(items)
        lowest, highest = min(lowest, float(samples.min())), max(highest, float(samples.max()))
        if counts is not None:
            counts += torch.bincount(conditions, minlength=len(counts))
        if samples.ndim == 4 and samples[0, 0].numel() > 1:
            is_plain = (samples == samples[:, :, :1, :1]).flatten(1).all(dim=1)
            plain += (start + is_plain.nonzero().flatten()).tolist()
        rows = samples.contiguous().flatten(1).numpy()
        for number, row in enumerate(rows, start):
            digest = hashlib.blake2b(row.data, digest_size=_DIGEST).digest()
            digests[number] = np.frombuffer(digest, np.uint64)
        yield (start + len(items)) / feed.size
    plain_copies = len(plain) - len(np.unique(digests[plain], axis=0))
    totals = None if counts is None else tuple(counts.tolist())
    return Contents(lowest, highest, totals, _groups(digests), len(plain), plain_copies)


def _groups(digests: NDArray[np.uint64]) -> list[list[int]]:
    """Return the numbers of equal rows, in groups of two or more, in the order of their first members."""
    order = np.lexsort(digests.T[::-1])  # stable, so that numbers rise within a group
    ordered = digests[order]
    is_first = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1), [True]])
    begins = np.flatnonzero(is_first)
    several = np.flatnonzero(np.diff(begins) > 1)
    return sorted(order[begins[group] : begins[group + 1]].tolist() for group in several)


def class_line(classes: Sequence[str], counts: Sequence[int] | None) -> str:
    """Return the number of classes, and their names and counts in the order of their numbers."""
    shown = [f"{name} ({counts[number]:,})" if counts else name for number, name in enumerate(classes[:_NAMED])]
    more = f", and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    return f"{len(classes):,}: {', '.join(shown)}{more}"


def describe_shape(shape: Shape) -> str:
    """Return a shape as text, with the meaning of its channels where it is known: `3x64x64 (RGB)`."""
    text = "x".join(map(str, shape))
    kinds = {1: "gray", 3: "RGB", 4: "RGBA"}
    return f"{text} ({kinds[shape[0]]})" if len(shape) == 3 and shape[0] in kinds else text


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
