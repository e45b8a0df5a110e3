"""Tables of numbers: text files (CSV, TSV), and Parquet files by `parquet`."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from gancore.errors import DataError
from gancore.utils.files import regular
from gancore_plugins.readers.cells import (
    HEAD_ROWS,
    Cells,
    Head,
    TextForm,
    check_size,
    check_width,
    counts_rows,
    is_default_header,
    is_missing,
    is_missing_label,
    rows_at_once,
)
from gancore_plugins.readers.parquet import parquet_cells, parquet_head

SUFFIXES = (".csv", ".tsv", ".parquet")
_HEAD_BYTES = 1 << 20
"""What is looked at to find delimiter, header and types."""
_DELIMITERS = (",", ";", "\t", "|")


def is_table(path: Path) -> bool:
    """Return whether a path is a file with the suffix of a table."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_head(path: Path, form: TextForm) -> Head:
    """Return the begin of a table. Raise DataError for a file that is no table."""
    if not path.is_file():
        raise DataError(f"table {path} does not exist", "--set dataset.path=FILE.csv")
    head = parquet_head(path) if path.suffix.lower() == ".parquet" else _text_head(path, form)
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
        return (yield from parquet_cells(head, columns, label))
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
        rows = [row for row in islice(csv.reader(io.StringIO(text), delimiter=delimiter), HEAD_ROWS + 1) if row]
    except csv.Error as error:
        raise DataError(f"cannot read table {path}: {error}", "check the quotes and the delimiter") from error
    if not rows:
        raise DataError(f"table {path} is empty", "name another file")
    width = len(rows[0])
    check_width(path, width)
    fitting = [row for row in rows[1:] if len(row) == width]
    decimal = form.decimal or _decimal(path, fitting or rows, delimiter)
    header = form.header
    if header is None:
        header = _is_header(rows[0], decimal)
    names = tuple(cell.strip() or f"column {place}" for place, cell in enumerate(rows[0], 1))
    unnamed = [place for place, cell in enumerate(rows[0]) if not cell.strip()]
    if not header:
        names, unnamed = tuple(f"column {place}" for place in range(1, width + 1)), []
        fitting = [rows[0], *fitting]
    found = TextForm(delimiter, decimal, header)
    text_columns = {
        name: "text" for place, name in enumerate(names) if _is_text([row[place] for row in fitting], decimal)
    }
    counts = [names[place] for place in unnamed if counts_rows([row[place] for row in fitting])]
    return Head(path, names, text_columns, fitting, tuple(counts), found)


def _is_header(row: list[str], decimal: str) -> bool:
    """Return whether the first row has names: no cell is a number, or they are those that pandas writes with an index.

    Those are an empty name for the index, then 0, 1, 2, …
    """
    if not row[0].strip() and is_default_header(row[1:]):
        return True
    return not any(not is_missing(cell) and _number(cell, decimal) is not None for cell in row)


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
    """Return whether most cells that have a value hold no number.

    Without any value, several different words that may be names of classes are text.
    """
    values = [_number(cell, decimal) for cell in cells]
    wrong = sum(value is None for value in values)
    given = sum(value is None or not math.isnan(value) for value in values)
    if not given:
        return len({cell.strip().lower() for cell in cells if not is_missing_label(cell)}) > 1
    return 2 * wrong > given


def _text_cells(
    head: Head, columns: Sequence[str], places: list[int], label_place: int | None
) -> Generator[float, None, Cells]:
    form = head.form or TextForm()
    decimal, width = form.decimal or ".", len(head.names)
    found, parts = Cells(np.empty((0, len(places)), np.float32)), list[NDArray[np.float32]]()
    pending, count, at_once = list[list[float]](), 0, rows_at_once(width)
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
                        found.note_missing(f"line {reader.line_num}, {name}", cell.strip())
                    values.append(math.nan if value is None else value)
            if label_place is not None:
                label = row[label_place].strip()
                if is_missing_label(label):
                    found.note_missing(f"line {reader.line_num}, {head.names[label_place]}", label)
                    label = ""
                found.labels.append(label)
            pending.append(values)
            count += 1
            if len(pending) == at_once:
                parts.append(_as_float32(pending))
                pending.clear()
                check_size(head, count)
                yield min(1.0, raw.tell() / max(1, size))
    parts.append(_as_float32(pending).reshape(-1, len(places)))
    found.numbers = np.concatenate(parts)
    return found


def _line(file: io.TextIOWrapper) -> str:
    """Return the next line, or "" at the end of the file. Unlike iteration, it keeps `tell` of the file usable."""
    return file.readline(1 << 24)


def _as_float32(rows: list[list[float]]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.array(rows, np.float64).astype(np.float32)
