"""Label files: a CSV table or the `dataset.json` of StyleGAN, which give each picture a class or numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gancore.errors import DataError
from gancore.utils.files import some
from gancore_plugins.readers.listing import sort_naturally
from gancore_plugins.readers.picture import suffix_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gancore_plugins.readers.picture_files import PictureFiles

LABEL_FILES = ("labels.csv", "dataset.json")
"""Names of label files that are found without a setting."""
MOST_BYTES = 256 << 20
"""The most bytes of a label file, enough for millions of pictures."""
MOST_CLASSES = 10_000
LONGEST_VECTOR = 4096
_LARGEST = float(np.finfo(np.float32).max)
_HINT = "correct the file, or train without it: --set dataset.labels=none"

Label = int | str | tuple[float, ...]
"""The number of a class, its name, or the values of a vector."""


@dataclass(frozen=True)
class Labels:
    """The labels of pictures: `values` (N,) int32 or (N, F) float32, in the order of `names`.

    `classes`: names of the classes, empty for vectors. `missing`: pictures in the file that are not there. `header`:
    the first line, if it names the columns. `ambiguous`: sentences on names in the file that several pictures have.
    """

    names: Sequence[str]
    values: NDArray[np.int32] | NDArray[np.float32]
    classes: tuple[str, ...]
    missing: Sequence[str]
    header: str = ""
    ambiguous: Sequence[str] = ()


class _Row(NamedTuple):
    where: str
    name: str
    label: Label


def read_labels(files: PictureFiles, label_file: str) -> Labels:
    """Return the labels of pictures. Raise DataError, with the line or entry, for a file that is not understood.

    Names in it are relative to its folder. A name without a folder or suffix is enough if it is that of one picture.
    """
    path = files.place / label_file
    try:
        if (size := files.size(label_file)) > MOST_BYTES:
            raise DataError(f"{path} has {size:,} bytes; the most is {MOST_BYTES:,}", _HINT)
        with files.open(label_file) as file:
            text = file.read(MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read labels {path}: {error.strerror or error}", _HINT) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}", "save it as UTF-8") from error
    folder = label_file.rpartition("/")[0]
    base = f"{folder}/" if folder else ""
    header = ""
    if suffix_of(label_file) == ".json":
        rows = _of_json(text, path)
    else:
        rows, header = _of_csv(text, path, files.names, base)
    labels, missing, several = _assign(rows, files.names, base)
    ambiguous = [f"{name} is the name of several pictures ({some(pictures)})" for name, pictures in several.items()]
    if not labels:
        why, hint = (f": {some(ambiguous)}", "write their paths in the file") if ambiguous else ("", _HINT)
        raise DataError(f"{path} has a label for none of the {len(files.names):,} pictures in {files.place}{why}", hint)
    names = [name for name in files.names if name in labels]
    values, classes = _values([labels[name] for name in names], path)
    return Labels(names, values, classes, missing, header, ambiguous)


def _of_json(text: str, path: Path) -> list[_Row]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}", _HINT) from error
    entries = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        what = "null" if isinstance(content, dict) and "labels" in content and entries is None else "no list"
        raise DataError(f'{path} has no labels: its "labels" are {what}', _HINT)
    rows = []
    for number, entry in enumerate(entries):
        where = f"label {number} in {path}"
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise DataError(f"{where} must be [file, label]; received {_short(entry)}", _HINT)
        name, label = entry
        if isinstance(label, list) and label and all(type(value) in (int, float) for value in label):
            rows.append(_Row(where, name, _vector(label, where)))
        elif type(label) is int and 0 <= label < MOST_CLASSES:
            rows.append(_Row(where, name, label))
        else:
            raise DataError(
                f"{where} must be a class in 0..{MOST_CLASSES - 1:,} or a list of numbers; received {_short(label)}",
                _HINT,
            )
    return rows


def _of_csv(text: str, path: Path, names: Sequence[str], base: str) -> tuple[list[_Row], str]:
    """Return the rows of a table, and its header: a file and a class, or numbers. Whole numbers alone are classes."""
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    found, header = list(_lines(text, path, delimiter)), ""
    if found and _is_header([cells[0] for _, cells in found], names, base):
        header = _short(delimiter.join(found.pop(0)[1]))
    if not found:
        raise DataError(f"{path} has no rows", _HINT)
    width = len(found[0][1])
    for line, cells in found:
        if len(cells) != width or width < 2 or not all(cells):
            raise DataError(
                f"line {line} of {path} must be a file and its label{f', {width} cells' if width > 2 else ''}; "
                f"received {_short(delimiter.join(cells))}",
                _HINT,
            )
    # A number with a point or an exponent somewhere makes the column one of numbers.
    as_classes = width == 2 and not _are_numbers(cells[1] for _, cells in found)
    rows = []
    for line, cells in found:
        where = f"line {line} of {path}"
        rows.append(_Row(where, cells[0], cells[1] if as_classes else _numbers(cells[1:], where)))
    return rows, header


def _lines(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not empty, with their numbers from 1."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if stripped := [cell.strip() for cell in cells]:
                yield reader.line_num, stripped
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} of {path} is no line of a table: {error}", _HINT) from error


def _is_header(first: list[str], names: Sequence[str], base: str) -> bool:
    """Return whether the first line names the columns, from the first cell of each line.

    Such a cell is no picture, has no suffix, and differs from the others in more than its numbers.
    """
    labels, _, several = _assign([_Row("", first[0], 0)], names, base)
    if suffix_of(first[0]) or labels or several:
        return False
    shape = _shape(first[0])
    return not any(_shape(cell) == shape for cell in first[1:])


def _shape(cell: str) -> str:
    return re.sub(r"\d+", "0", cell)


def _are_numbers(cells: Iterable[str]) -> bool:
    """Return whether all cells are numbers, and some of them no whole numbers."""
    whole = True
    for cell in cells:
        try:
            _number(cell)
        except ValueError:
            return False
        whole = whole and cell.lstrip("+-").isdigit()
    return not whole


def _numbers(cells: list[str], where: str) -> tuple[float, ...]:
    try:
        return _vector([_number(cell) for cell in cells], where)
    except ValueError as error:
        raise DataError(
            f"{where} has {len(cells) + 1} columns, so all after the file must be numbers; received "
            f"{_short(', '.join(cells))}",
            "keep one column of classes, or train without the file: --set dataset.labels=none",
        ) from error


def _number(cell: str) -> float:
    """Return the number in a cell. Raise ValueError for other text, also for 20_29, which Python would read as 2029."""
    if "_" in cell:
        raise ValueError(f"{cell} is no number")
    return float(cell)


def _vector(values: list[float], where: str) -> tuple[float, ...]:
    if len(values) > LONGEST_VECTOR:
        raise DataError(f"{where} has {len(values):,} numbers; the most is {LONGEST_VECTOR:,}", _HINT)
    if not all(abs(value) <= _LARGEST for value in values):  # false for NaN
        raise DataError(f"{where} must be finite numbers; received {_short(values)}", _HINT)
    return tuple(map(float, values))


def _assign(
    rows: list[_Row], names: Sequence[str], base: str
) -> tuple[dict[str, Label], list[str], dict[str, list[str]]]:
    """Return the label of each picture, the names in the rows of pictures that are not there, and those of several.

    The latter come with the pictures that they may mean.
    """
    labels, missing, several, known = dict[str, Label](), list[str](), dict[str, list[str]](), set(names)
    short: dict[str, str | None] | None = None
    for row in rows:
        name = row.name.replace("\\", "/").removeprefix("./")
        picture: str | None = base + name
        if picture not in known:
            short = _short_names(names) if short is None else short
            picture = short.get(name)
            if picture is None and name in short:
                several[name] = []
                continue
        if picture is None:
            missing.append(row.name)
        elif labels.setdefault(picture, row.label) != row.label:
            raise DataError(
                f"{row.where} gives {picture} the label {_short(row.label)}, after {_short(labels[picture])}", _HINT
            )
    for picture in names if several else ():
        for name in _short_names_of(picture) & several.keys():
            several[name].append(picture)
    return labels, missing, several


def _short_names(names: Sequence[str]) -> dict[str, str | None]:
    """Return the pictures by their names without folder or suffix; None for names of several."""
    short: dict[str, str | None] = {}
    for name in names:
        for key in _short_names_of(name):
            short[key] = None if key in short else name
    return short


def _short_names_of(name: str) -> set[str]:
    last = name.rpartition("/")[2]
    return {last, last.rpartition(".")[0], name.rpartition(".")[0]}


def _values(labels: list[Label], path: Path) -> tuple[NDArray[np.int32] | NDArray[np.float32], tuple[str, ...]]:
    """Return labels as an array, and the names of the classes."""
    kinds = {len(label) if isinstance(label, tuple) else type(label) for label in labels}
    if len(kinds) > 1:
        raise DataError(f"the labels in {path} must be all classes, or all vectors of one length", _HINT)
    if isinstance(labels[0], tuple):
        return np.array(labels, np.float32), ()
    if isinstance(labels[0], int):  # the numbers of classes stay as they are
        numbers = np.array(labels, np.int32)
        return numbers, tuple(map(str, range(int(numbers.max()) + 1)))
    classes = sorted({str(label) for label in labels})
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"there can be at most {MOST_CLASSES:,} classes; {path} has {len(classes):,} different labels", _HINT
        )
    sort_naturally(classes)
    number_of = {name: number for number, name in enumerate(classes)}
    return np.array([number_of[str(label)] for label in labels], np.int32), tuple(classes)


def _short(value: object) -> str:
    """Return a value of the file as text that fits into a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
