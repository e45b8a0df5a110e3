"""Tensors that may be larger than memory."""

from __future__ import annotations

import math
import shutil
from tempfile import NamedTemporaryFile, gettempdir

import torch
from torch import Tensor

from gancore.errors import DataError

MOST_IN_MEMORY = 2 << 30
"""Bytes of the largest tensor that is kept in memory."""


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return an uninitialized tensor: in memory up to 2 GiB, else in a temporary file, which is removed with it.

    Raises DataError when the file would not fit into the folder of temporary files.
    """
    count, size = math.prod(shape), math.prod(shape) * dtype.itemsize
    if size <= MOST_IN_MEMORY:
        return torch.empty(shape, dtype=dtype)
    # A disk that fills up while a mapped file is written would kill the process, so check first.
    if size > (free := shutil.disk_usage(gettempdir()).free):
        raise DataError(
            f"{shape[0]:,} images take {size:,} bytes, and {free:,} are free in {gettempdir()}",
            "measure fewer, with -n, or set TMPDIR to a folder with more space",
        )
    with NamedTemporaryFile(prefix="gancore-") as file:  # the tensor keeps it open
        return torch.from_file(file.name, shared=True, size=count, dtype=dtype).view(shape)


def take(values: Tensor, indices: Tensor) -> Tensor:
    """Return `values[indices]` for indices (N,), in memory or in a file; see `empty`."""
    chosen = empty((len(indices), *values.shape[1:]), values.dtype)
    return torch.index_select(values, 0, indices, out=chosen)
