"""Tables of numbers in text files (CSV, TSV) and in Parquet files."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from gancore.errors import DataError, describe_error
from gancore.utils.files import regular

if TYPE_CHECKING:
    import pyarrow.parquet

SUFFIXES = (".csv", ".tsv", ".parquet")
MOST_CELLS = 200_000_000
"""Cells of a table that are read into memory, as float32."""
MOST_COLUMNS = 16_384
_MOST_PROBLEMS = 100_000
"""Wrong cells that are remembered; the others are counted."""
_HEAD_BYTES, _HEAD_ROWS = 1 << 20, 1000
"""What is looked at to find delimiter, header and types."""
_CELLS = 1 << 20
"""Cells that are converted at once, of all columns."""
_DELIMITERS = (",", ";", "\t", "|")
_MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "nil", "-", "?", "."}
"""Cells without a value, in lower case."""


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

    def note_missing(self, place: str) -> None:
        """Remember a missing value."""
        self.count_missing += 1
        if len(self.missing) < _MOST_PROBLEMS:
            self.missing.append(place)

    def note_wrong(self, place: str) -> None:
        """Remember a cell that is no number."""
        self.count_wrong += 1
        if len(self.wrong) < _MOST_PROBLEMS:
            self.wrong.append(place)


def is_table(path: Path) -> bool:
    """Return whether a path is a file with the suffix of a table."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def is_missing(cell: str) -> bool:
    """Return whether a cell has no value."""
    return cell.strip().lower() in _MISSING


def read_head(path: Path, form: TextForm) -> Head:
    """Return the begin of a table. Raise DataError for a file that is no table."""
    if not path.is_file():
        raise DataError(f"table {path} does not exist", "--set dataset.path=FILE.csv")
    head = _parquet_head(path) if path.suffix.lower() == ".parquet" else _text_head(path, form)
    if not head.rows:
        raise DataError(f"table {path} has no rows", "name another file")
    twice = next((name for place, name in enumerate(head.names) if name in head.names[:place]), None)
    if twice is not None:
        raise DataError(f"two columns of table {path} are called {twice!r}", "rename one of them")
    return head


def read_cells(head: Head, columns: Sequence[str], label: str | None) -> Generator[float, None, Cells]:
    """Read columns of numbers, and one of labels; yield the share that is done, and return the cells."""
    places = [head.names.index(name) for name in columns]
    label_place = None if label is None else head.names.index(label)
    if head.form is None:
        return (yield from _parquet_cells(head, columns, label))
    return (yield from _text_cells(head, columns, places, label_place))


@contextmanager
def _text_file(path: Path) -> Iterator[tuple[io.TextIOWrapper, BinaryIO, int]]:
    """Open a text file in the block; give its text, its bytes and its size. Errors of reading become DataError."""
    try:
        with regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            begin = file.read(4)
            file.seek(0)
            wide = begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            yield io.TextIOWrapper(file, "utf-16" if wide else "utf-8-sig", newline=""), file, size
    except UnicodeDecodeError as error:
        raise DataError(
            f"table {path} is not text in UTF-8: byte {error.object[error.start]:#04x}", "save it as CSV in UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read table {path}: {error.strerror or error}", "check its permissions") from error
    except csv.Error as error:
        raise DataError(f"cannot read table {path}: {error}", "check the quotes and the delimiter") from error


def _text_head(path: Path, form: TextForm) -> Head:
    with _text_file(path) as (file, _, size):
        text = file.read(_HEAD_BYTES)
        if size > _HEAD_BYTES:
            text = text[: text.rfind("\n") + 1] or text
    if "\0" in text:
        raise DataError(f"{path} is no table of text: it has null characters", "save it as CSV in UTF-8")
    delimiter = form.delimiter or _delimiter(text)
    try:
        rows = [row for row in islice(csv.reader(io.StringIO(text), delimiter=delimiter), _HEAD_ROWS + 1) if row]
    except csv.Error as error:
        raise DataError(f"cannot read table {path}: {error}", "check the quotes and the delimiter") from error
    if not rows:
        raise DataError(f"table {path} is empty", "name another file")
    width = len(rows[0])
    _check_width(path, width)
    fitting = [row for row in rows[1:] if len(row) == width]
    decimal = form.decimal or _decimal(path, fitting or rows, delimiter)
    header = form.header
    if header is None:
        header = not any(not is_missing(cell) and _number(cell, decimal) is not None for cell in rows[0])
    names = tuple(cell.strip() or f"column {place}" for place, cell in enumerate(rows[0], 1))
    unnamed = [place for place, cell in enumerate(rows[0]) if not cell.strip()]
    if not header:
        names, unnamed = tuple(f"column {place}" for place in range(1, width + 1)), []
        fitting = [rows[0], *fitting]
    found = TextForm(delimiter, decimal, header)
    text_columns = {
        name: "text" for place, name in enumerate(names) if _is_text([row[place] for row in fitting], decimal)
    }
    counts = [names[place] for place in unnamed if _counts([row[place] for row in fitting])]
    return Head(path, names, text_columns, fitting, tuple(counts), found)


def _delimiter(text: str) -> str:
    """Return the delimiter that divides most lines into equally many cells; a comma for a single column."""
    lines = [line for line in text.splitlines()[:100] if line.strip()]
    best, most = ",", (0, 0)
    for delimiter in _DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        except csv.Error:
            continue
        width = max(set(widths), key=widths.count, default=0)
        score = (widths.count(width), width)
        if width > 1 and score > most:
            best, most = delimiter, score
    return best


def _decimal(path: Path, rows: list[list[str]], delimiter: str) -> Literal[".", ","]:
    """Return the sign of decimals. Raise DataError if commas may be decimals or thousands."""
    cells = [cell.strip() for row in rows for cell in row if "," in cell]
    commas = [cell for cell in cells if _number(cell, ",") is not None]
    if not commas:
        return "."
    if any("." in cell and _number(cell, ".") is not None for row in rows for cell in row):
        return "."
    if all(len(cell.rpartition(",")[2]) == 3 for cell in commas):
        raise DataError(
            f"in table {path} the comma of {commas[0]!r} may mark decimals or thousands",
            "--set dataset.decimal=, for decimals; remove the commas if they mark thousands",
        )
    return ","


def _number(cell: str, decimal: str) -> float | None:
    """Return the finite number of a cell, NaN if it is missing, None for other text."""
    if decimal == ",":
        if "." in cell:
            return math.nan if is_missing(cell) else None
        cell = cell.replace(",", ".")
    try:
        value = float(cell)
    except ValueError:
        return math.nan if is_missing(cell) else None
    if "_" in cell or math.isinf(value):
        return None
    return value


def _plain_numbers(cells: list[str]) -> list[float] | None:
    """Return the numbers of cells that are all finite numbers, else None: the common case, in a third of the time."""
    try:
        values = list(map(float, cells))
    except ValueError:
        return None
    return values if math.isfinite(sum(values)) and "_" not in "".join(cells) else None


def _is_text(cells: list[str], decimal: str) -> bool:
    """Return whether most cells that have a value hold no number."""
    values = [_number(cell, decimal) for cell in cells]
    wrong = sum(value is None for value in values)
    given = sum(value is None or not math.isnan(value) for value in values)
    return 2 * wrong > given


def _counts(cells: list[str]) -> bool:
    """Return whether cells are consecutive integers."""
    return len(cells) > 1 and all(cell.strip().isdecimal() for cell in cells) and _step_by_one(list(map(int, cells)))


def _step_by_one(values: list[int]) -> bool:
    return values[0] in (0, 1) and values == list(range(values[0], values[0] + len(values)))


def _text_cells(
    head: Head, columns: Sequence[str], places: list[int], label_place: int | None
) -> Generator[float, None, Cells]:
    form = head.form or TextForm()
    decimal, width = form.decimal or ".", len(head.names)
    found, parts = Cells(np.empty((0, len(places)), np.float32)), list[NDArray[np.float32]]()
    pending, count, at_once = list[list[float]](), 0, _rows_at_once(width)
    with _text_file(head.path) as (file, raw, size):
        reader = csv.reader(iter(partial(_line, file), ""), delimiter=form.delimiter or ",")
        rows = filter(None, reader)
        if form.header:
            next(rows, None)
        for row in rows:
            if len(row) != width:
                found.note_wrong(f"line {reader.line_num}: {len(row)} cells, not {width}")
                continue
            cells = [row[place] for place in places]
            values = _plain_numbers(cells) if decimal == "." else None
            if values is None:
                values = list[float]()
                for name, cell in zip(columns, cells, strict=True):
                    value = _number(cell, decimal)
                    if value is None:
                        found.note_wrong(f"line {reader.line_num}, {name}: {cell[:30]!r}")
                        found.bad.add(count)
                    elif math.isnan(value):
                        found.note_missing(f"line {reader.line_num}, {name}")
                    values.append(math.nan if value is None else value)
            if label_place is not None:
                label = row[label_place].strip()
                if is_missing(label):
                    found.note_missing(f"line {reader.line_num}, {head.names[label_place]}")
                    label = ""
                found.labels.append(label)
            pending.append(values)
            count += 1
            if len(pending) == at_once:
                parts.append(_as_float32(pending))
                pending.clear()
                _check_size(head, count)
                yield min(1.0, raw.tell() / max(1, size))
    parts.append(_as_float32(pending).reshape(-1, len(places)))
    found.numbers = np.concatenate(parts)
    return found


def _rows_at_once(columns: int) -> int:
    return max(1, _CELLS // max(1, columns))


def _line(file: io.TextIOWrapper) -> str:
    """Return the next line, or "" at the end of the file. Unlike iteration, it keeps `tell` of the file usable."""
    return file.readline(1 << 24)


def _as_float32(rows: list[list[float]]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.array(rows, np.float64).astype(np.float32)


def _check_width(path: Path, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise DataError(
            f"table {path} has {columns:,} columns; the most is {MOST_COLUMNS:,}",
            "write it as an array (numpy.save), and use the dataset array",
        )


def _check_size(head: Head, rows: int) -> None:
    if rows * len(head.names) > MOST_CELLS:
        raise DataError(
            f"table {head.path} has more than {MOST_CELLS:,} cells",
            "write it as an array (numpy.save), and use the dataset array",
        )


def _parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path} is a Parquet file, which needs pyarrow", "pip install 'gancore[parquet]'") from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path} as Parquet: {describe_error(error)}", "write the file anew") from error


def _parquet_head(path: Path) -> Head:
    with _parquet(path) as file:
        import pyarrow

        types = pyarrow.types
        schema, count = file.schema_arrow, file.metadata.num_rows
        _check_width(path, len(schema))
        numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
        text = {
            each.name: "text" if types.is_string(each.type) or types.is_large_string(each.type) else str(each.type)
            for each in schema
            if not any(is_type(each.type) for is_type in numbers)
        }
        head = Head(path, tuple(schema.names), text, [])
        _check_size(head, count)
        try:
            batch = next(file.iter_batches(min(_HEAD_ROWS, _rows_at_once(len(schema)))), None)
            first = [] if batch is None else batch.to_pylist()
        except Exception as error:  # of a damaged file
            raise DataError(f"cannot read {path} as Parquet: {describe_error(error)}", "write the file anew") from error
    head.rows.extend(["" if row[name] is None else str(row[name]) for name in head.names] for row in first)
    counts = [name for name in head.names if name == "__index_level_0__" and _counts(head.values_of(name))]
    return Head(path, head.names, head.text, head.rows, tuple(counts))


def _parquet_cells(head: Head, columns: Sequence[str], label: str | None) -> Generator[float, None, Cells]:
    found, parts, count = Cells(np.empty((0, len(columns)), np.float32)), list[NDArray[np.float32]](), 0
    with _parquet(head.path) as file:
        import pyarrow
        import pyarrow.compute

        total = max(1, file.metadata.num_rows)
        try:
            read_columns = [*columns, *([label] if label is not None else [])]
            for batch in file.iter_batches(_rows_at_once(len(read_columns)), columns=read_columns):
                read = [
                    pyarrow.compute.cast(batch.column(name), pyarrow.float64(), safe=False).to_numpy(
                        zero_copy_only=False
                    )
                    for name in columns
                ]
                part = np.stack(read, axis=1) if read else np.empty((batch.num_rows, 0))
                for row, place in zip(*np.nonzero(~np.isfinite(part)), strict=True):
                    where = f"row {count + int(row) + 1}, {columns[place]}"
                    if math.isnan(part[row, place]):
                        found.note_missing(where)
                    else:
                        found.note_wrong(f"{where}: {part[row, place]}")
                        found.bad.add(count + int(row))
                if label is not None:
                    labels = ["" if each is None else str(each).strip() for each in batch.column(label).to_pylist()]
                    for row, each in enumerate(labels):
                        if is_missing(each):
                            found.note_missing(f"row {count + row + 1}, {label}")
                            labels[row] = ""
                    found.labels += labels
                with np.errstate(over="ignore"):
                    parts.append(part.astype(np.float32))
                count += len(part)
                yield min(1.0, count / total)
        except Exception as error:  # of a damaged file
            raise DataError(
                f"cannot read {head.path} as Parquet: {describe_error(error)}", "write the file anew"
            ) from error
    found.numbers = np.concatenate(parts) if parts else found.numbers
    return found
