"""Arrays in files of other programs: NumPy, safetensors and HDF5, opened without reading them in full.

Pickles are never loaded, sizes that a file declares are checked before memory is allocated, and no other file is
opened, whatever a file refers to.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from gancore.errors import DataError, describe_error
from gancore.utils.files import regular, without_warnings

if TYPE_CHECKING:
    import h5py

Format = Literal["npy", "npz", "safetensors", "hdf5"]
SUFFIXES: dict[str, Format] = {
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
"""The format that each suffix promises."""
_MAGIC: dict[bytes, Format] = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"\x89HDF\r\n\x1a\n": "hdf5"}
_WRITERS: dict[Format, str] = {
    "npy": "numpy.save(FILE, array)",
    "npz": "numpy.savez(FILE, images=array)",
    "safetensors": "safetensors.numpy.save_file({'images': array}, FILE)",
    "hdf5": "h5py.File(FILE, 'w')['images'] = array",
}
_MOST_UNPACKED = 4 << 30
"""Bytes of an array that is decompressed into memory."""
_MOST_CHUNK = 1 << 28
"""Bytes of a chunk of HDF5, which is decompressed as a whole."""
_MOST_INFLATED = 2000
"""The most bytes of a dataset of HDF5 for each byte in the file; deflate reaches 1032."""
_MOST_DIRECTORY = 4 << 20
"""Bytes of the list of the members of an archive."""
_MOST_HEADER = 10_000
"""Bytes of a header of NumPy, which is parsed as Python."""
_MOST_ARRAYS = 10_000
_SAFETENSORS = {
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for bits in (8, 16, 32, 64) for kind in "IU"},
    "BOOL": "?",
}
"""NumPy's names of the types of safetensors. The others have none."""

Numbers = NDArray[Any]  # Any: of the type that the file has


class Rows(Protocol):
    """The rows of an open array, read when they are asked for."""

    def __getitem__(self, rows: slice, /) -> Numbers:
        """Return the rows of a slice."""


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, which is not read yet. `offset` is that of its data, None unless it can be mapped.

    `packed` is the number of rows that HDF5 compresses together, so that reading one takes as long as reading all.
    """

    path: Path
    format: Format
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # Any: of the file
    offset: int | None = None
    columns_first: bool = False
    packed: int = 1

    def open(self) -> Rows:
        """Return the rows. Raise DataError when they cannot be read, or are Python objects."""
        if self.dtype.hasobject and self.format == "hdf5":
            # A damaged length would make the library allocate gigabytes.
            raise DataError(
                f"array {self.name!r} of {self.path} has values of variable length, which are not read",
                "store text in a fixed length: names.astype('S')",
            )
        if self.dtype.hasobject:
            raise DataError(
                f"array {self.name!r} of {self.path} holds Python objects (a pickle), which are never loaded",
                "convert it to numbers: numpy.stack(list(array))",
            )
        try:
            if self.offset is not None:
                order: Literal["F", "C"] = "F" if self.columns_first else "C"
                return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)
            if self.format == "hdf5":
                return _Lazy(self, _hdf5(self.path)[self.name])
            return _unpacked(self)
        except DataError:
            raise
        except Exception as error:  # files of users, read by libraries
            raise unreadable(self.path, self.format, error) from error

    def describe(self) -> str:
        """Return type and shape as text."""
        return f"{self.dtype} {self.shape}"


class _Lazy:
    """Rows of an HDF5 dataset."""

    def __init__(self, stored: StoredArray, dataset: h5py.Dataset) -> None:
        self._path, self._dataset = stored.path, dataset
        row = math.prod(stored.shape[1:]) * stored.dtype.itemsize
        self._at_once = stored.packed if stored.packed * row <= _MOST_CHUNK else 1

    def __getitem__(self, rows: slice, /) -> Numbers:
        try:
            return np.asarray(self._dataset[rows])
        except Exception as error:  # of a damaged file
            raise unreadable(self._path, "hdf5", error) from error

    def take(self, indices: Sequence[int]) -> Numbers:
        """Return the rows at indices, with one read of those that are compressed together."""
        wanted, places = np.unique(indices, return_inverse=True)
        ends = np.flatnonzero(np.diff(wanted // self._at_once)) + 1
        parts = [self[group[0] : group[-1] + 1][group - group[0]] for group in np.split(wanted, ends)]
        return np.concatenate(parts)[places]


def array_format(path: Path) -> Format | None:
    """Return the format of a file of arrays by its first bytes, or by its suffix; None for other files."""
    if not path.is_file():
        return None
    promised = SUFFIXES.get(path.suffix.lower())
    try:
        with regular(path) as file:
            begin = file.read(8)
    except OSError as error:
        if promised is None:
            return None
        raise DataError(f"cannot read {path}: {error.strerror or error}", "check its permissions") from error
    found = next((form for magic, form in _MAGIC.items() if begin.startswith(magic)), None)
    if found == "npz" and promised != "npz":
        return None if promised is None and not _holds_arrays(path) else "npz"
    return found or promised


def arrays_in(path: Path) -> list[StoredArray]:
    """Return the arrays of a file, sorted by name. Raise DataError for a file that has no arrays, or is damaged."""
    form = array_format(path)
    if form is None:
        known = ", ".join(SUFFIXES)
        problem = "is no file of arrays" if path.exists() else "does not exist"
        raise DataError(f"{path} {problem} ({known})", "check dataset.path")
    listed: dict[Format, Callable[[Path], list[StoredArray]]] = {
        "npy": _npy,
        "npz": _npz,
        "safetensors": _safetensors,
        "hdf5": _hdf5_arrays,
    }
    try:
        with without_warnings():
            found = listed[form](path)
        for array in found:
            _check(array)
        return sorted(found, key=lambda array: array.name)
    except DataError:
        raise
    except Exception as error:  # numpy parses a header as a Python literal, which can raise almost anything
        raise unreadable(path, form, error) from error


def unreadable(path: Path, form: Format, error: Exception) -> DataError:
    """Return the error for a file that is damaged, or of another format."""
    return DataError(f"{path} cannot be read as {form}: {describe_error(error)}", f"write it with {_WRITERS[form]}")


def _check(array: StoredArray) -> None:
    if any(not 0 <= side < 2**48 for side in array.shape) or math.prod(array.shape) >= 2**56:
        raise ValueError(f"array {array.name!r} declares the shape {array.shape}")


def _npy(path: Path) -> list[StoredArray]:
    with regular(path) as file:
        begin, size = file.read(6), os.fstat(file.fileno()).st_size
        if begin != b"\x93NUMPY":
            raise ValueError(f"it begins with {begin.hex(' ') or 'nothing'} instead of 93 4e 55 4d 50 59")
        file.seek(0)
        array = _header(file, path, "npy", path.name)
    return [_placed(array, size)]


def _header(file: Any, path: Path, form: Format, name: str, start: int = 0) -> StoredArray:  # Any: a file, or a member
    """Return the array that a header of NumPy declares; `start` is the place of the header in the file."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): (2, np.lib.format.read_array_header_1_0), (2, 0): (4, np.lib.format.read_array_header_2_0)}
    if version not in readers:
        raise ValueError(f"its format has version {version}; {sorted(readers)} are known")
    width, read = readers[version]
    prefix = file.read(width)
    if (length := int.from_bytes(prefix, "little")) > _MOST_HEADER:  # NumPy would read all of it before its own check
        raise ValueError(f"{name} declares a header of {length:,} bytes; the most is {_MOST_HEADER:,}")
    shape, columns_first, dtype = read(io.BytesIO(prefix + file.read(length)))
    return StoredArray(path, form, name, tuple(map(int, shape)), dtype, start + file.tell(), columns_first)


def _placed(array: StoredArray, end: int) -> StoredArray:
    """Return an array whose data must end at `end`, unless it holds Python objects."""
    if array.dtype.hasobject or array.offset is None:
        return replace(array, offset=None)
    surplus = end - array.offset - math.prod(array.shape) * array.dtype.itemsize
    if surplus < 0:
        raise ValueError(f"{-surplus:,} bytes are missing at the end of {array.name}")
    if surplus > 0:
        raise ValueError(f"{surplus:,} bytes follow the array {array.name}")
    return array


class _InParts:
    """A file that is read in small parts only: zipfile reads the list of members at once, of any declared length."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell, self.seekable = file, file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_DIRECTORY:
            raise ValueError(f"its list of members has {size:,} bytes; the most is {_MOST_DIRECTORY:,}")
        return self._file.read(size)


@contextmanager
def _zip(path: Path) -> Iterator[tuple[BinaryIO, zipfile.ZipFile]]:
    """Open an archive in the block; give its file, too."""
    with regular(path) as file, zipfile.ZipFile(cast(BinaryIO, _InParts(file))) as archive:
        yield file, archive


def _holds_arrays(path: Path) -> bool:
    """Return whether a zip archive holds arrays only."""
    try:
        with _zip(path) as (_, archive):
            names = archive.namelist()
        return bool(names) and all(name.endswith(".npy") for name in names)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError):
        return False


def _npz(path: Path) -> list[StoredArray]:
    arrays = list[StoredArray]()
    with _zip(path) as (file, archive):
        size = os.fstat(file.fileno()).st_size
        members = archive.infolist()
        if len(members) > _MOST_ARRAYS:
            raise ValueError(f"it has {len(members):,} members; the most is {_MOST_ARRAYS:,}")
        for info in members:
            if not info.filename.endswith(".npy"):
                continue
            name = info.filename[:-4]
            if info.flag_bits & 1:
                raise ValueError(f"{name} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others unbounded
                raise ValueError(f"{name} is compressed by another method than deflate")
            with archive.open(info) as member:
                array = _header(member, path, "npz", name)
            array = _placed(array, info.file_size)
            if info.compress_type == zipfile.ZIP_STORED and array.offset is not None:
                start = _start_of(file, info, size)
                arrays.append(replace(array, offset=start + array.offset))
            else:
                if info.file_size > _MOST_UNPACKED:
                    raise ValueError(
                        f"{name} has {info.file_size:,} bytes when it is decompressed; the most is {_MOST_UNPACKED:,}: "
                        "write it with numpy.savez, which does not compress"
                    )
                arrays.append(replace(array, offset=None))
    if not arrays:
        raise ValueError("it holds no arrays (.npy)")
    return arrays


def _start_of(file: BinaryIO, info: zipfile.ZipInfo, size: int) -> int:
    """Return where the data of a member begins in the file. The local header may differ from the central one."""
    file.seek(info.header_offset)
    local = file.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise ValueError(f"{info.filename} has no header")
    start: int = info.header_offset + 30 + sum(struct.unpack("<HH", local[26:30]))
    if start + info.file_size > size:
        raise ValueError(f"{info.filename} ends after the file")
    return start


def _unpacked(stored: StoredArray) -> Numbers:
    """Return a compressed array of an archive, whose size was checked."""
    try:
        values: Numbers = np.empty(math.prod(stored.shape), stored.dtype)
    except MemoryError as error:
        raise DataError(
            f"array {stored.name!r} of {stored.path} does not fit into memory", "write it with numpy.savez"
        ) from error
    with _zip(stored.path) as (_, archive), archive.open(f"{stored.name}.npy") as member:
        _header(member, stored.path, "npz", stored.name)
        octets, place = values.view(np.uint8), 0
        while place < len(octets):
            part = member.read(min(1 << 20, len(octets) - place))
            if not part:
                raise ValueError(f"{stored.name} ends early")
            octets[place : place + len(part)] = np.frombuffer(part, np.uint8)
            place += len(part)
        if member.read(1):  # also checks the checksum
            raise ValueError(f"{stored.name} is longer than its header says")
    return values.reshape(stored.shape, order="F" if stored.columns_first else "C")


def _safetensors(path: Path) -> list[StoredArray]:
    import safetensors

    with safetensors.safe_open(path, "numpy"):  # checks the header, and that the arrays fill the file
        pass
    with regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    if len(header) > _MOST_ARRAYS:
        raise ValueError(f"it has {len(header):,} arrays; the most is {_MOST_ARRAYS:,}")
    arrays = list[StoredArray]()
    for name, about in header.items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in _SAFETENSORS:
            raise ValueError(f"{name} has the type {about['dtype']}, which NumPy does not have; convert it to float32")
        dtype, start = np.dtype(_SAFETENSORS[about["dtype"]]), 8 + length + about["data_offsets"][0]
        arrays.append(StoredArray(path, "safetensors", name, tuple(about["shape"]), dtype, start))
    return arrays


def is_checkpoint(path: Path) -> bool:
    """Return whether a safetensors file was written by gancore as a checkpoint."""
    try:
        with regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < 1 << 26 else {}
        return "gancore" in header.get("__metadata__", {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def _hdf5(path: Path) -> h5py.File:
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path} is an HDF5 file, which needs h5py", "pip install 'gancore[hdf5]'") from error
    return h5py.File(path, "r", locking=False)


def _hdf5_arrays(path: Path) -> list[StoredArray]:
    arrays, seen = list[StoredArray](), 0
    with _hdf5(path) as file:
        import h5py

        def visit(name: str, item: object) -> None:
            nonlocal seen
            seen += 1
            if seen > _MOST_ARRAYS:
                raise ValueError(f"it has more than {_MOST_ARRAYS:,} datasets")
            if not isinstance(item, h5py.Dataset) or item.shape is None:
                return
            if item.is_virtual or item.external:
                raise ValueError(f"{name} refers to other files, which are never opened; copy the data into one file")
            nbytes, stored = math.prod(item.shape) * item.dtype.itemsize, item.id.get_storage_size()
            if nbytes > _MOST_INFLATED * stored:
                raise ValueError(f"{name} declares {nbytes:,} bytes, of which the file holds {stored:,}")
            if item.chunks and math.prod(item.chunks) * item.dtype.itemsize > _MOST_CHUNK:
                raise ValueError(f"{name} has chunks of {item.chunks}; the most is {_MOST_CHUNK:,} bytes")
            compressed = item.chunks and item.id.get_create_plist().get_nfilters()
            packed = item.chunks[0] if compressed else 1
            arrays.append(StoredArray(path, "hdf5", name, tuple(item.shape), item.dtype, packed=packed))

        file.visititems(visit)  # follows hard links only
    if not arrays:
        raise ValueError("it holds no datasets")
    return arrays


def read_all(stored: StoredArray) -> Numbers:
    """Return a small array, such as labels or names, in full. Raise DataError when it cannot be read."""
    values = np.asarray(stored.open()[:])
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values


def take(rows: Rows, indices: Sequence[int]) -> Numbers:
    """Return the rows (M, …) at indices. Rows that follow each other are read at once."""
    start, count = indices[0], len(indices)
    if list(indices) == list(range(start, start + count)):
        return np.asarray(rows[start : start + count])
    return rows.take(indices) if isinstance(rows, _Lazy) else np.asarray(rows)[list(indices)]
