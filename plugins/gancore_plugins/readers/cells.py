"""The cells of a table, and what is common to all formats of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gancore.errors import DataError

MOST_CELLS = 200_000_000
"""Cells of a table that are read into memory, as float32."""
MOST_COLUMNS = 16_384
_MOST_PROBLEMS = 100_000
"""Wrong cells that are remembered; the others are counted."""
HEAD_ROWS = 1000
"""Rows that are looked at to find names and types."""
_CELLS = 1 << 20
"""Cells that are converted at once, of all columns."""
_MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "nil", "-", "?", "."}
"""Cells without a value, in lower case."""
_MISSING_LABELS = {"", "na", "n/a", "#n/a", "<na>", "nan"}
"""Labels that are missing: fewer, since other words may be names of classes."""


@dataclass(frozen=True)
class TextForm:
    """How a text file is read: its delimiter, the sign of decimals, whether the first row has names; None: found."""

    delimiter: str | None = None
    decimal: Literal[".", ","] | None = None
    header: bool | None = None


@dataclass(frozen=True)
class Head:
    """The begin of a table: `names` of its columns, `text` what those without numbers hold, `rows` of cells as text.

    `form` is how a text file is read, None for Parquet; `counts` the columns that only count the rows.
    """

    path: Path
    names: tuple[str, ...]
    text: Mapping[str, str]
    rows: list[list[str]]
    counts: tuple[str, ...] = ()
    form: TextForm | None = None

    def values_of(self, name: str) -> list[str]:
        """Return the cells of a column that have a value."""
        place = self.names.index(name)
        return [row[place] for row in self.rows if not is_missing(row[place])]

    def labels_of(self, name: str) -> list[str]:
        """Return the cells of a column that have a label."""
        place = self.names.index(name)
        return [row[place] for row in self.rows if not is_missing_label(row[place])]


@dataclass
class Cells:
    """The rows of a table: `numbers` (N, F) float32, NaN where a value is missing; `labels` (N), "" where missing.

    `missing` and `wrong` list the cells without a number, by line (or row, from 1) and column; each list ends after
    100,000, and the `count_…` have all of them. `bad` are the rows (from 0) with a wrong cell. Rows of a wrong length
    are left out of `numbers`.
    """

    numbers: NDArray[np.float32]
    labels: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    count_missing: int = 0
    count_wrong: int = 0
    bad: set[int] = field(default_factory=set)

    def note_missing(self, place: str, cell: str = "") -> None:
        """Remember a missing value, and what the cell holds in its place."""
        self.count_missing += 1
        if len(self.missing) < _MOST_PROBLEMS:
            self.missing.append(f"{place}: {cell!r}" if cell else place)

    def note_wrong(self, place: str) -> None:
        """Remember a cell that is no number."""
        self.count_wrong += 1
        if len(self.wrong) < _MOST_PROBLEMS:
            self.wrong.append(place)


def is_missing(cell: str) -> bool:
    """Return whether a cell has no value."""
    return cell.strip().lower() in _MISSING


def is_missing_label(cell: str) -> bool:
    """Return whether a cell of the column of labels has no label."""
    return cell.strip().lower() in _MISSING_LABELS


def is_default_header(cells: list[str]) -> bool:
    """Return whether cells are 0, 1, 2, …, the names that pandas gives columns."""
    return len(cells) > 0 and [cell.strip() for cell in cells] == list(map(str, range(len(cells))))


def counts_rows(cells: list[str]) -> bool:
    """Return whether cells are consecutive integers."""
    return len(cells) > 1 and all(cell.strip().isdecimal() for cell in cells) and _step_by_one(list(map(int, cells)))


def _step_by_one(values: list[int]) -> bool:
    return values[0] in (0, 1) and values == list(range(values[0], values[0] + len(values)))


def rows_at_once(columns: int) -> int:
    """Return the number of rows that are converted at once."""
    return max(1, _CELLS // max(1, columns))


def check_width(path: Path, columns: int) -> None:
    """Raise DataError for more columns than tables may have."""
    if columns > MOST_COLUMNS:
        raise DataError(
            f"table {path} has {columns:,} columns; the most is {MOST_COLUMNS:,}",
            "write it as an array (numpy.save), and use the dataset array",
        )


def check_size(head: Head, rows: int) -> None:
    """Raise DataError for more cells than are read into memory."""
    if rows * len(head.names) > MOST_CELLS:
        raise DataError(
            f"table {head.path} has more than {MOST_CELLS:,} cells",
            "write it as an array (numpy.save), and use the dataset array",
        )
