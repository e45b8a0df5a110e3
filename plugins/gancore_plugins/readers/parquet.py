"""Tables of numbers in Parquet files."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gancore.errors import DataError, describe_error
from gancore_plugins.readers.cells import (
    HEAD_ROWS,
    Cells,
    Head,
    check_size,
    check_width,
    counts_rows,
    is_missing_label,
    rows_at_once,
)

if TYPE_CHECKING:
    import pyarrow.parquet


@contextmanager
def _parquet(path: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Open a file in the block. Raise DataError, which names the file, if it is damaged, also where the block reads."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path} is a Parquet file, which needs pyarrow", "pip install 'gancore[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except DataError:
        raise
    except Exception as error:  # pyarrow raises many types for damaged files
        raise DataError(f"cannot read {path} as Parquet: {describe_error(error)}", "write the file anew") from error


def parquet_head(path: Path) -> Head:
    """Return the begin of a table. Raise DataError for a file that is no table, or is damaged."""
    with _parquet(path) as file:
        import pyarrow

        types = pyarrow.types
        schema, count = file.schema_arrow, file.metadata.num_rows
        check_width(path, len(schema))
        numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
        text = {
            each.name: "text" if types.is_string(each.type) or types.is_large_string(each.type) else str(each.type)
            for each in schema
            if not any(is_type(each.type) for is_type in numbers)
        }
        head = Head(path, tuple(schema.names), text, [])
        check_size(head, count)
        batch = next(file.iter_batches(min(HEAD_ROWS, rows_at_once(len(schema)))), None)
        first = [] if batch is None else batch.to_pylist()
    head.rows.extend(["" if row[name] is None else str(row[name]) for name in head.names] for row in first)
    counts = [name for name in head.names if name == "__index_level_0__" and counts_rows(head.values_of(name))]
    return Head(path, head.names, head.text, head.rows, tuple(counts))


def parquet_cells(head: Head, columns: Sequence[str], label: str | None) -> Generator[float, None, Cells]:
    """Read columns of numbers, and one of labels; yield the share that is done, and return the cells."""
    found, parts, count = Cells(np.empty((0, len(columns)), np.float32)), list[NDArray[np.float32]](), 0
    with _parquet(head.path) as file:
        import pyarrow
        import pyarrow.compute

        total = max(1, file.metadata.num_rows)
        read_columns = [*columns, *([label] if label is not None else [])]
        for batch in file.iter_batches(rows_at_once(len(read_columns)), columns=read_columns):
            read = [
                pyarrow.compute.cast(batch.column(name), pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
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
                    if is_missing_label(each):
                        found.note_missing(f"row {count + row + 1}, {label}", each)
                        labels[row] = ""
                found.labels += labels
            with np.errstate(over="ignore"):
                parts.append(part.astype(np.float32))
            count += len(part)
            yield min(1.0, count / total)
    found.numbers = np.concatenate(parts) if parts else found.numbers
    return found
