"""Writers of samples into a file: arrays, a table, a picture, an animation. Each form has one."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable
from functools import partial
from io import FileIO
from typing import Literal, Protocol

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from gancore.sampling.animation import ANIMATED, Animated, Animation, PictureStyle
from gancore.sampling.draw import SampleStream
from gancore.sampling.grid import picture, png_bytes

Form = Literal["picture", "npy", "safetensors", "csv", "folder", "webp", "gif", "mp4"]
"""What samples are written as; a folder has numbered pictures."""


class Writer(Protocol):
    """Writes samples of one form into a file."""

    count: int
    """Samples that are written."""

    def add(self, chunk: Tensor) -> None:
        """Write the next samples (M, …)."""

    def end(self) -> None:
        """Make the file valid with the samples that are written so far, and drop what follows them.

        Can be called again after an error.
        """


class _Array:
    """An array: a header with the number of samples, which is written again if fewer are drawn, and the samples."""

    def __init__(self, file: FileIO, samples: SampleStream, _style: PictureStyle) -> None:
        self._file, self._samples, self.count = file, samples, 0
        self._row = math.prod(samples.shape) * samples.dtype.itemsize
        header = self._header(samples.count)
        self._begin = len(header)
        _write(file, header)

    def add(self, chunk: Tensor) -> None:
        _write(self._file, chunk.contiguous().numpy().tobytes())
        self.count += len(chunk)

    def end(self) -> None:
        self._file.truncate(self._begin + self.count * self._row)
        self._file.seek(0)
        _write(self._file, self._header(self.count))

    def _header(self, count: int) -> bytes:
        """Return the header for this number of samples; for a lower one it has the same length."""
        raise NotImplementedError


class _Npy(_Array):
    def _header(self, count: int) -> bytes:
        header = io.BytesIO()
        about = np.lib.format.header_data_from_array_1_0(torch.empty(0, dtype=self._samples.dtype).numpy())
        np.lib.format.write_array_header_1_0(header, {**about, "shape": (count, *self._samples.shape)})
        return header.getvalue()


class _Safetensors(_Array):
    _begin = 0

    def _header(self, count: int) -> bytes:
        empty = safetensors.torch.save({"samples": torch.empty(0, dtype=self._samples.dtype)})
        entry = json.loads(empty[8:])["samples"]
        entry |= {"shape": [count, *self._samples.shape], "data_offsets": [0, count * self._row]}
        text = json.dumps({"samples": entry}, separators=(",", ":")).encode()
        length = self._begin - 8 if self._begin else -(-len(text) // 8) * 8
        return length.to_bytes(8, "little") + text.ljust(length)


class _Table:
    """A table in CSV with a row for each vector, and the names of the columns in the first row."""

    def __init__(self, file: FileIO, samples: SampleStream, _style: PictureStyle) -> None:
        self._file, self.count = file, 0
        self._write([samples.columns or [f"v{number}" for number in range(samples.shape[0])]])
        self._end = file.tell()

    def add(self, chunk: Tensor) -> None:
        self._write(chunk.numpy().astype(str))  # the shortest text that reads back as the same float32
        self._end, self.count = self._file.tell(), self.count + len(chunk)

    def end(self) -> None:
        self._file.truncate(self._end)

    def _write(self, rows: Iterable[Iterable[object]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        _write(self._file, text.getvalue().encode())


class _Picture:
    """One picture of all samples."""

    def __init__(self, file: FileIO, samples: SampleStream, style: PictureStyle) -> None:
        self._file, self._style, self._limits, self.count = file, style, samples.limits, 0
        self._chunks: list[Tensor] = []

    def add(self, chunk: Tensor) -> None:
        self._chunks.append(chunk)
        self.count += len(chunk)

    def end(self) -> None:
        self._file.truncate(0)
        self._file.seek(0)
        style = self._style
        _write(self._file, png_bytes(picture(torch.cat(self._chunks), style.real, self._limits, style.layout)))


class _Animation:
    """An animation, which is encoded in memory."""

    def __init__(self, file: FileIO, samples: SampleStream, style: PictureStyle, form: Animated) -> None:
        self._file, self._animation, self.count = file, Animation(form, samples, style), 0

    def add(self, chunk: Tensor) -> None:
        self._animation.add(chunk)
        self.count = self._animation.count

    def end(self) -> None:
        self._file.truncate(0)
        self._file.seek(0)
        _write(self._file, self._animation.encoded())


def _write(file: FileIO, data: bytes) -> None:
    """Write all bytes, without a buffer: after an error, no bytes are left that a later write would bring out."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


WriterKind = Callable[[FileIO, SampleStream, PictureStyle], Writer]
"""Makes a writer into an open file, for these samples in this style."""
WRITERS: dict[Form, WriterKind] = {
    "picture": _Picture,
    "npy": _Npy,
    "safetensors": _Safetensors,
    "csv": _Table,
    **{form: partial(_Animation, form=form) for form in ANIMATED},
}
"""The writers of forms that are one file."""
