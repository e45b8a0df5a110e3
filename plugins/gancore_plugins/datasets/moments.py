"""Means and standard deviations of columns of numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Moments:
    """Means and standard deviations of columns, added up over parts of the rows, Chan et al. 1979."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, rows: NDArray[np.float32]) -> None:
        """Add rows (M, F) with M >= 1."""
        values = rows.astype(np.float64)
        count, mean = len(values), values.mean(axis=0)
        squares = np.square(values - mean).sum(axis=0)
        low, high = values.min(axis=0), values.max(axis=0)
        if not self.count:
            self.count, self._mean, self._squares, self._low, self._high = count, mean, squares, low, high
            return
        total, difference = self.count + count, mean - self._mean
        self._mean = self._mean + difference * (count / total)
        self._squares = self._squares + squares + np.square(difference) * (self.count * count / total)
        self.count, self._low, self._high = total, np.minimum(self._low, low), np.maximum(self._high, high)

    def scales(self) -> tuple[list[float], list[float]]:
        """Return means and standard deviations (F,).

        A constant column gets its value and so small a deviation that samples have almost exactly its value.
        """
        constant = self.constant()
        means = np.where(constant, self._low, self._mean)
        stds = np.sqrt(self._squares / self.count)
        tiny = 1e-6 * np.maximum(np.abs(means), 1.0)
        return means.tolist(), np.where(constant | (stds < 1e-30), tiny, stds).tolist()

    def constant(self) -> NDArray[np.bool_]:
        """Return which columns have one value only."""
        return np.asarray(self._low == self._high)
