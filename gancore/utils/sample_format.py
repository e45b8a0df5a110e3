"""How samples and conditions are stored, and how networks see them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gancore.errors import DataError


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """How the samples of a dataset are stored.

    `uint8` in 0..255, which networks see in [-1, 1]; or `float32`, which networks see as it is, or mapped from
    `value_range` to [-1, 1].
    """

    dtype: Literal["uint8", "float32"] = "uint8"
    value_range: tuple[float, float] | None = None

    @classmethod
    def of(cls, sample: Tensor, value_range: object = None) -> SampleFormat:
        """Return the format of a stored sample of a dataset with this `value_range`. Raise DataError if it is wrong."""
        if sample.dtype == torch.uint8:
            if value_range is not None:
                raise DataError(
                    "value_range is for float32 data; uint8 data always has 0..255", "leave value_range out"
                )
            return cls("uint8")
        if value_range is None:
            return cls("float32")
        try:
            low, high = map(float, value_range)  # type: ignore[call-overload]  # raises TypeError
            ends = (low, high)
        except (TypeError, ValueError):
            ends = (0.0, 0.0)
        if isinstance(value_range, str) or not -math.inf < ends[0] < ends[1] < math.inf:
            raise DataError(f"value_range must be two finite numbers, the lower one first; received {value_range!r}")
        return cls("float32", ends)

    @property
    def bounded(self) -> bool:
        """Whether networks see samples in [-1, 1]."""
        return self.dtype == "uint8" or self.value_range is not None

    def to_network(self, stored: Tensor) -> Tensor:
        """Return stored samples (N, …) as networks see them; uint8 becomes torch's default float type."""
        if self.dtype == "uint8":
            return pictures_to_network(stored)
        if self.value_range is None:
            return stored
        low, high = self.value_range
        return (stored - low).mul_(2 / (high - low)).sub_(1)

    def to_stored(self, generated: Tensor) -> Tensor:
        """Return generated samples (N, …) as they are stored: clamped to the range, and for uint8 rounded."""
        if self.dtype == "uint8":
            return generated.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        if self.value_range is None:
            return generated
        low, high = self.value_range
        return generated.clamp(-1, 1).add(1).mul((high - low) / 2).add(low)


UINT8 = SampleFormat("uint8")


def pictures_to_network(stored: Tensor) -> Tensor:
    """Return uint8 values in 0..255 as torch's default float type in [-1, 1]."""
    return stored.to(torch.get_default_dtype()).div_(127.5).sub_(1)


def condition_to_network(stored: Tensor) -> Tensor:
    """Return stored conditions as networks see them: uint8 in [-1, 1], labels int64 and float32 tensors unchanged."""
    return pictures_to_network(stored) if stored.dtype == torch.uint8 else stored
