"""Tables of the user: each row is a vector of numbers."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.utils.data import TensorDataset

from gancore.contracts import Findings, Outline, Shape
from gancore.errors import DataError
from gancore.utils.files import some
from gancore_plugins.datasets.finish import finish
from gancore_plugins.datasets.holdout import HeldOutRows, held_out
from gancore_plugins.datasets.moments import Moments
from gancore_plugins.readers.cells import Cells, Head, TextForm, counts_rows, is_default_header
from gancore_plugins.readers.listing import natural
from gancore_plugins.readers.tables import is_table, read_cells, read_head

_MOST_CLASSES = 10_000
_NAMED = 20
"""Cells that an error names."""
_DIGITS = 1e-3
"""A column is said to lose digits if float32 rounds its values by more than this share of a standard deviation."""


class Table(HeldOutRows):
    """A table of numbers, as CSV, TSV or Parquet. Each row is a vector, standardized for networks.

    Samples are in the units of the table. Parquet needs the extra `parquet`.
    """

    name = "table"
    path: str = Field(description="file: .csv, .tsv or .parquet")
    columns: tuple[str, ...] = Field(default=(), description="columns to train on; empty: all columns of numbers")
    label: str | None = Field(default=None, description="column with the class of each row; absent: no classes")
    missing: Literal["stop", "skip", "mean"] = Field(
        default="stop",
        description="what to do with rows that lack a value: stop, leave them out, or take the column's mean",
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop", description="what to do with rows that cannot be read as numbers: stop, or leave them out"
    )
    standardize: bool = Field(
        default=True, description="whether networks see columns with mean 0 and standard deviation 1"
    )
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="character between cells; absent: found"
    )
    decimal: Literal[".", ","] | None = Field(default=None, description="sign of decimals; absent: found")
    header: bool | None = Field(default=None, description="whether the first row has the names; absent: found")

    @classmethod
    def from_path(cls, path: Path, shape: Shape | None = None) -> Self | None:
        if not is_table(path):
            return None
        try:
            head = read_head(path, TextForm())
        except DataError:
            # Where the file can be read with settings, they may be set: `outline` and `build` say which.
            read_head(path, TextForm(delimiter=",", decimal=".", header=False))
            return cls(path=str(path))
        used = [name for name in head.text if name not in head.counts]
        if len(used) == 1 and _may_be_classes(head.labels_of(used[0])):
            return cls(path=str(path), label=used[0])
        return cls(path=str(path))

    def outline(self) -> Outline:
        loaded = self._loaded()
        return Outline(len(loaded.rows(self)), (len(loaded.columns),), loaded.classes)

    def prepare(self, root: Path) -> Iterator[float]:
        yield from self._load()

    def build(self, root: Path) -> TensorDataset:
        loaded = self._loaded()
        loaded.check(self)
        chosen = loaded.rows(self)
        if not len(chosen):
            raise DataError(
                f"table {self.path} has no rows {'to train on' if self.split == 'train' else 'held out'}",
                "--set dataset.holdout=0.1 holds out a tenth; a table must have at least two rows for it",
            )
        training = self.model_copy(update={"split": "train"})
        moments = _moments(loaded.cells.numbers[loaded.rows(training)], loaded)
        values = loaded.cells.numbers[chosen]
        if self.missing == "mean":
            values = np.where(np.isnan(values), np.array(moments.means, np.float32), values)
        labels = [] if self.label is None else [torch.from_numpy(loaded.labels[chosen])]
        built = TensorDataset(torch.from_numpy(values), *labels)
        attributes: dict[str, object] = {"columns": loaded.columns}
        attributes |= {"scales": (moments.means, moments.stds)} if self.standardize else {}
        attributes |= {"classes": loaded.classes, "labels": labels[0]} if labels else {}
        for name, value in attributes.items():
            setattr(built, name, value)
        return built

    def findings(self, root: Path) -> Findings:
        loaded = self._loaded()
        cells, skipped = loaded.cells, dict[str, Sequence[str]]()
        if loaded.left_out:
            skipped["columns left out"] = loaded.left_out
        if loaded.head.counts:
            skipped["columns that count the rows"] = loaded.head.counts
        if cells.wrong:
            skipped["unreadable as numbers"] = cells.wrong
        if cells.missing and self.missing == "skip":
            skipped["missing values left out"] = cells.missing
        path = Path(self.path)
        used = {"Parquet" if loaded.head.form is None else path.suffix[1:].upper(): [path.name]}
        return Findings(used, skipped, dict(_facts(self, loaded)), list(_notes(self, loaded)))

    def _loaded(self) -> _Loaded:
        return finish(self._load())

    def _load(self) -> Generator[float, None, _Loaded]:
        """Read the table, unless it was the last one read in this process; yield the share that is done."""
        path = Path(self.path).expanduser()
        head = read_head(path, TextForm(self.delimiter, self.decimal, self.header))
        columns, left_out = self._columns(head)
        status = path.stat()
        key = (path.absolute(), status.st_size, status.st_mtime_ns, head.form, columns, self.label)
        if _last and _last[0][0] == key:
            return _last[0][1]
        cells = yield from read_cells(head, columns, self.label)
        labels, classes = _numbered(cells.labels, self) if self.label is not None else (np.empty(0, np.int64), ())
        loaded = _Loaded(head, columns, left_out, cells, labels, classes)
        _last[:] = [(key, loaded)]
        return loaded

    def _columns(self, head: Head) -> tuple[tuple[str, ...], list[str]]:
        """Return the columns to train on, and those that are left out. Raise DataError if some hold text."""
        known = ", ".join(head.names[:50])
        for name in (*self.columns, *([] if self.label is None else [self.label])):
            if name not in head.names:
                raise DataError(f"table {self.path} has no column {name!r}; it has {known}", "correct the name")
        if self.label is not None and self.label in self.columns:
            raise DataError(f"column {self.label!r} is the label, so it cannot be in columns too", "remove it there")
        possible = [name for name in head.names if name != self.label and name not in head.counts]
        chosen = list(self.columns) or possible
        if text := [name for name in chosen if name in head.text]:
            numbers = [name for name in chosen if name not in head.text]
            if not self.columns:  # a column of numbers that only counts the rows is rarely meant
                numbers = [name for name in numbers if not counts_rows(head.values_of(name))] or numbers
            listed = some([f"{name!r} ({head.text[name]})" for name in text], _NAMED)
            names = "[" + ",".join(f'"{name}"' for name in numbers) + "]"
            leave_out = (
                f"--set {shlex.quote(f'dataset.columns={names}')} leaves them out" if numbers else "name another file"
            )
            able = text if self.label is None and not self.columns else []
            fitting = [name for name in able if _may_be_classes(head.labels_of(name))]
            label = f"; --set {shlex.quote(f'dataset.label={fitting[0]}')} makes it the class" if fitting else ""
            raise DataError(f"tables must hold numbers; {listed} of {self.path} hold none", leave_out + label)
        if not chosen:
            raise DataError(f"table {self.path} has no column of numbers", "name another file")
        return tuple(chosen), [name for name in possible if name not in chosen]


_last: list[tuple[object, _Loaded]] = []
"""The last table that was read, with what it depends on: it is asked for several times before a run."""


@dataclass(frozen=True)
class _Loaded:
    """A table that was read."""

    head: Head
    columns: tuple[str, ...]
    left_out: list[str]
    cells: Cells
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def rows(self, table: Table) -> NDArray[np.int64]:
        """Return the numbers of the rows of a part, without those that are left out."""
        numbers, cells = self.cells.numbers, self.cells
        kept = np.ones(len(numbers), bool)
        if table.holdout:
            out = held_out(len(numbers), table.holdout)
            kept = out if table.split == "test" else ~out
        kept[list(cells.bad)] = False
        if table.missing != "mean":
            kept &= np.isfinite(numbers).all(axis=1)
        if table.label is not None:
            kept &= self.labels >= 0
        return np.flatnonzero(kept)

    def check(self, table: Table) -> None:
        """Raise DataError for cells without a number, unless their rows are to be skipped or filled."""
        cells, path = self.cells, table.path
        listing = f"gancore data {shlex.quote(path)} --json lists all"
        if cells.count_wrong and table.on_error == "stop":
            raise DataError(
                f"{_count(cells.count_wrong, 'place')} of table {path} cannot be read as numbers: "
                f"{some(cells.wrong, _NAMED, cells.count_wrong)}",
                f"correct them ({listing}), or leave their rows out: --set dataset.on_error=skip",
            )
        if cells.count_missing and table.missing == "stop":
            raise DataError(
                f"table {path} lacks {_count(cells.count_missing, 'value')}: "
                f"{some(cells.missing, _NAMED, cells.count_missing)}",
                "--set dataset.missing=skip leaves these rows out, --set dataset.missing=mean takes the column's mean; "
                f"{listing}",
            )
        if table.missing == "mean" and (without := int((self.labels < 0).sum())):
            raise DataError(
                f"table {path} has no {table.label} in {_count(without, 'row')}, and a class has no mean",
                "--set dataset.missing=skip leaves these rows out",
            )
        if np.isinf(cells.numbers).any():
            row, place = (int(found[0]) for found in np.nonzero(np.isinf(cells.numbers)))
            raise DataError(
                f"values must be at most 3e38 in size, as float32; row {row + 1} of table {path}, column "
                f"{self.columns[place]}, is larger",
                "divide the column by a constant",
            )


@dataclass(frozen=True)
class _Scales:
    means: list[float]
    stds: list[float]
    constant: NDArray[np.bool_]


def _moments(rows: NDArray[np.float32], loaded: _Loaded) -> _Scales:
    """Return means and standard deviations of the columns over the values that are there."""
    if not len(rows):
        raise DataError(f"table {loaded.head.path} has no complete rows to train on", "--set dataset.missing=mean")
    columns = list[Moments]()
    for place, name in enumerate(loaded.columns):
        values = rows[:, place]
        values = values[np.isfinite(values)]
        if not len(values):
            raise DataError(
                f"column {name!r} of table {loaded.head.path} has no values to train on", "leave it out of columns"
            )
        moments = Moments()
        moments.add(values[:, None])
        columns.append(moments)
    found = [moments.scales() for moments in columns]
    constant = np.array([bool(moments.constant()[0]) for moments in columns])
    return _Scales([means[0] for means, _ in found], [stds[0] for _, stds in found], constant)


def _numbered(labels: list[str], table: Table) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels (N,), -1 where they are missing, and the names of the classes in natural order."""
    classes = sorted({label for label in labels if label}, key=lambda label: (natural(label), label))
    if len(classes) > _MOST_CLASSES or len(classes) > max(1, len(labels) // 2):
        raise DataError(
            f"column {table.label!r} of table {table.path} has {len(classes):,} different values in {len(labels):,} "
            "rows, so it is no class",
            "name another column as the label, or leave it out",
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers.get(label, -1) for label in labels], np.int64), tuple(classes)


def _may_be_classes(values: list[str]) -> bool:
    """Return whether each value of a column of text is there twice, on average."""
    return 0 < 2 * len(set(values)) <= len(values)


def _count(number: int, one: str) -> str:
    return f"{number:,} {one}{'s' if number != 1 else ''}"


def _facts(table: Table, loaded: _Loaded) -> Iterator[tuple[str, str]]:
    """Yield what to tell about a table, with a name for each fact."""
    form = loaded.head.form
    if form is not None:
        delimiter = {"\t": "tab", ",": "comma", ";": "semicolon"}.get(form.delimiter or "", repr(form.delimiter))
        header = "the first row has the names" if form.header else "no names, so columns are numbered"
        yield "form", f"{delimiter} between cells, decimal {'comma' if form.decimal == ',' else 'point'}, {header}"
    yield "columns", ", ".join(loaded.columns[:50]) + (" …" if len(loaded.columns) > 50 else "")
    yield "values", "standardized for networks, column by column" if table.standardize else "as they are"
    if table.label is not None:
        yield "label", f"{table.label}, {len(loaded.classes)} classes"
    if loaded.cells.count_missing and table.missing == "mean":
        yield "missing", f"{loaded.cells.count_missing:,} values, replaced by the mean of their column"
    if table.holdout:
        out = held_out(len(loaded.cells.numbers), table.holdout)
        yield "held out", f"{int(out.sum()):,} of {len(out):,} rows"


def _notes(table: Table, loaded: _Loaded) -> Iterator[str]:
    """Yield what a user should know before training."""
    first, form = loaded.head.rows[0], loaded.head.form
    has_no_names = table.header is None and form is not None and not form.header
    if has_no_names and len(first) > 1 and is_default_header(first):
        yield (
            f"the first row, 0 to {len(first) - 1}, is read as a sample; if it is a header, such as pandas writes for "
            "columns without names: --set dataset.header=true"
        )
    numbers = loaded.cells.numbers[loaded.rows(table.model_copy(update={"split": "train"}))]
    if not len(numbers):
        return
    scales = _moments(numbers, loaded)
    for place, name in enumerate(loaded.columns):
        values = numbers[:, place]
        if scales.constant[place]:
            yield f"column {name!r} has one value only, {scales.means[place]:g}"
        elif (step := float(np.spacing(np.nanmax(np.abs(values))))) > _DIGITS * scales.stds[place]:
            yield (
                f"column {name!r} loses digits: float32 rounds its values to steps of {step:g}, and their standard "
                f"deviation is {scales.stds[place]:g}; subtract a constant from it"
            )
        elif len(values) > 2 and np.array_equal(values, values[0] + np.arange(len(values))):
            yield f"column {name!r} counts the rows; leave it out of columns unless that is meant"
    if table.label is None:
        for name in loaded.columns:
            if name.lower() in ("label", "class", "target", "y", "species", "category"):
                distinct = Counter(numbers[:, loaded.columns.index(name)].tolist())
                if len(distinct) <= max(2, len(numbers) // 20):
                    setting = shlex.quote(f"dataset.label={name}")
                    yield f"column {name!r} is trained on as a number; --set {setting} makes it the class"
