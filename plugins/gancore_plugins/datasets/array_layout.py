"""The order of the axes of an array: of images, vectors, series or volumes, by its shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gancore.contracts import Shape
from gancore.errors import DataError
from gancore_plugins.readers.arrays import Numbers, StoredArray

Layout = Literal["NF", "NL", "NCL", "NLC", "NHW", "NCHW", "NHWC", "NDHW", "NCDHW", "NDHWC"]
LAYOUTS: dict[Layout, tuple[int | None, ...]] = {
    "NF": (0, 1),
    "NL": (0, None, 1),
    "NCL": (0, 1, 2),
    "NLC": (0, 2, 1),
    "NHW": (0, None, 1, 2),
    "NCHW": (0, 1, 2, 3),
    "NHWC": (0, 3, 1, 2),
    "NDHW": (0, None, 1, 2, 3),
    "NCDHW": (0, 1, 2, 3, 4),
    "NDHWC": (0, 4, 1, 2, 3),
}
"""The axis of the file at each place of samples (N, F), (N, C, L), (N, C, H, W) or (N, C, D, H, W); None: a new one."""
_MOST_CHANNELS = 16
MOST_VALUES = 1 << 26
"""The most values of a sample, such as a volume of 400x400x400."""
_PICTURE_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Conversion:
    """How rows become samples: `layout` of the rows; whether samples are uint8, else float32; whether RGB is gray."""

    layout: Layout
    as_bytes: bool
    gray: bool

    def __call__(self, rows: Numbers) -> Tensor:
        """Return samples (M, …) of rows (M, …)."""
        axes = LAYOUTS[self.layout]
        values = rows.transpose([axis for axis in axes if axis is not None])
        values = values[:, None] if None in axes else values
        values = values[:, :1] if self.gray else values
        if self.as_bytes:
            converted = np.array(values, np.uint8) * np.uint8(255 if rows.dtype.kind == "b" else 1)
        else:
            with np.errstate(over="ignore"):  # reported as not finite
                converted = np.array(values, np.float32)
        return torch.from_numpy(np.ascontiguousarray(converted))


def guess_layout(array: StoredArray) -> Layout:
    """Return the layout of an array by its shape. Raise DataError if it is not clear."""
    sides = array.shape[1:]
    problem = f"{array.path} holds {array.describe()}"
    if len(sides) == 1:
        return "NF"
    if len(sides) == 2:
        first, last = sides
        if array.dtype != np.uint8 and first <= _MOST_CHANNELS < last:
            return "NCL"
        if array.dtype != np.uint8 and last <= _MOST_CHANNELS < first:
            return "NLC"
        return "NHW"
    if len(sides) == 3:
        first, last = sides[0], sides[2]
        if first in _PICTURE_CHANNELS:
            return "NCHW"
        if last in _PICTURE_CHANNELS:
            return "NHWC"
        if first <= _MOST_CHANNELS and last <= _MOST_CHANNELS:
            raise DataError(
                f"{problem}, where the channels may be the second axis or the last",
                "--set dataset.layout=NCHW or --set dataset.layout=NHWC",
            )
        return "NCHW" if first <= _MOST_CHANNELS else "NHWC" if last <= _MOST_CHANNELS else "NDHW"
    if len(sides) == 4:
        if sides[0] <= _MOST_CHANNELS or sides[3] > _MOST_CHANNELS:
            return "NCDHW"
        return "NDHWC"
    raise DataError(
        f"arrays must be (N, F), (N, C, L), (N, C, H, W) or (N, C, D, H, W); {problem}",
        "reshape it; the first axis counts the samples",
    )


def shape_in(array: StoredArray, layout: Layout) -> Shape:
    """Return the shape of a sample of an array in a layout."""
    return tuple(1 if axis is None else array.shape[axis] for axis in LAYOUTS[layout][1:])


def checked_shape(array: StoredArray, layout: Layout) -> Shape:
    received = f"{array.path} holds {array.describe()}"
    if len(layout) != len(array.shape):
        raise DataError(
            f"layout {layout} is for arrays of {len(layout)} axes; {received}", "--set dataset.layout=… with another"
        )
    if 0 in array.shape:
        raise DataError(f"there must be at least one sample, with at least one value; {received}", "name another file")
    shape = shape_in(array, layout)
    if (size := math.prod(shape)) > MOST_VALUES:
        raise DataError(f"a sample can have up to {MOST_VALUES:,} values; {received}, {size:,} each", "reshape it")
    if len(shape) > 1 and shape[0] > _MOST_CHANNELS:
        raise DataError(
            f"samples can have up to {_MOST_CHANNELS} channels; {received}, in the layout {layout} with {shape[0]}",
            "--set dataset.layout=… with another",
        )
    return shape
