"""What reading all rows of an array finds: rows that are not finite, the range of the others, and their scales."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gancore.contracts import Shape, Split
from gancore.errors import DataError, StorageError
from gancore.utils.atomic import replacing
from gancore.utils.lock import exclusive
from gancore_plugins.datasets.array_labels import Chosen
from gancore_plugins.datasets.array_layout import Conversion
from gancore_plugins.datasets.moments import Moments
from gancore_plugins.readers.arrays import Numbers, StoredArray

_CHUNK = 1 << 26
"""Bytes that are read at once."""
_CACHED = 1 << 28
"""Bytes of an array from which on the result of reading all of it is kept."""


@dataclass(frozen=True)
class Plan:
    """How a file is read: what is known before its values are."""

    chosen: Chosen
    shape: Shape
    conversion: Conversion
    conditions: Tensor | None
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    value_range: tuple[float, float] | Literal["measured"] | None
    standardized: bool
    out: NDArray[np.bool_]
    holdout: float

    def rows(self, split: Split, bad: Sequence[int] = ()) -> NDArray[np.int64]:
        """Return the numbers of the rows of a part, without bad ones; all rows if nothing is held out."""
        kept = np.ones(len(self.out), bool) if not self.holdout else self.out if split == "test" else ~self.out
        kept = kept.copy()
        kept[list(bad)] = False
        return np.flatnonzero(kept)

    @property
    def images(self) -> StoredArray:
        return self.chosen.images

    @property
    def nbytes(self) -> int:
        return math.prod(self.images.shape) * self.images.dtype.itemsize

    @property
    def must_be_read(self) -> bool:
        """Whether all values must be read before training: to find those that are not finite, and to measure."""
        return not self.conversion.as_bytes or self.conversion.gray


@dataclass
class Measured:
    """What reading all rows found: rows that are not finite; of the others that are trained on, range and scales."""

    bad: list[int] = field(default_factory=list)
    low: float = math.inf
    high: float = -math.inf
    means: list[float] = field(default_factory=list)
    stds: list[float] = field(default_factory=list)

    def span(self, plan: Plan) -> tuple[float, float]:
        """Return the measured range. Raise DataError if all values are equal."""
        if not self.low < self.high:
            raise DataError(
                f"all values of {plan.images.path} are {self.low:g}, so their range cannot be measured",
                "--set 'dataset.value_range=[LOW, HIGH]'",
            )
        return self.low, self.high


def measure(plan: Plan, root: Path) -> Generator[float, None, Measured]:
    """Read all rows if that is needed; yield the share that is done, and return what was found.

    For a large array it is kept in a file below `root`.
    """
    if not plan.must_be_read:
        return Measured()
    if plan.nbytes < _CACHED:
        return (yield from _read_through(plan))
    status = plan.images.path.stat()
    key = [
        str(plan.images.path.absolute()),
        status.st_size,
        status.st_mtime_ns,
        plan.images.name,
        plan.conversion.layout,
    ]
    key += [plan.conversion.gray, plan.holdout, plan.standardized]
    cache = root / "arrays" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]}.json"
    try:
        with exclusive(cache):
            if (known := _cached(cache)) is not None:
                return known
            found = yield from _read_through(plan)
            with replacing(cache, exclusive=True) as temporary:
                temporary.write_text(json.dumps(vars(found)), encoding="utf-8")
            return found
    except OSError as error:
        raise StorageError(
            f"cannot write what was measured to {cache.parent}: {error}", "use another folder: --data-dir FOLDER"
        ) from error


def _cached(cache: Path) -> Measured | None:
    try:
        return Measured(**json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _read_through(plan: Plan) -> Generator[float, None, Measured]:
    """Read all rows; yield the share that is done, and return what was found."""
    found, moments = Measured(), Moments()
    count, rows = plan.images.shape[0], plan.images.open()
    step = max(1, _CHUNK * count // max(1, plan.nbytes))
    for start in range(0, count, step):
        values = np.asarray(rows[start : start + step])
        if plan.conversion.gray:
            _check_gray(plan, values, start)
        if not plan.conversion.as_bytes:
            samples = plan.conversion(values).flatten(1).numpy()
            finite = np.isfinite(samples).all(axis=1)
            found.bad += (start + np.flatnonzero(~finite)).tolist()
            trained = samples[finite & ~plan.out[start : start + step]]
            if len(trained):
                found.low = min(found.low, float(trained.min()))
                found.high = max(found.high, float(trained.max()))
                if plan.standardized:
                    moments.add(trained)
        yield min(1.0, (start + step) / count)
    if plan.standardized and moments.count:
        found.means, found.stds = moments.scales()
    return found


def _check_gray(plan: Plan, values: Numbers, start: int) -> None:
    channels = np.moveaxis(values, 1 if plan.conversion.layout == "NCHW" else -1, 1)
    colored = (channels != channels[:, :1]).reshape(len(values), -1).any(axis=1)
    if colored.any():
        raise DataError(
            f"images must be gray, with one channel; image {start + int(colored.argmax())} of {plan.images.path} has "
            "color",
            "convert them, or leave gray out",
        )
