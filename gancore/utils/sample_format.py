"""How samples and conditions are stored, and how networks see them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from gancore.errors import DataError, describe_error

MOST_SCALES = 16_384
"""Maximum number of means, and of standard deviations: a checkpoint holds them as text."""


@dataclass(frozen=True, slots=True)
class Scales:
    """Means and standard deviations that standardize samples: networks and metrics see (x - mean) / std.

    Both hold as many numbers as `shape`, which is that of a sample, or one that is broadcast to it.
    """

    shape: tuple[int, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    def __hash__(self) -> int:
        """Return a hash of few numbers: that of all would be computed for every batch."""
        return hash((self.shape, self.means[:1], self.stds[:1]))

    @classmethod
    def of(cls, scales: object, shape: tuple[int, ...]) -> Scales:
        """Return the `scales` attribute of a dataset with samples of this shape. Raise DataError if it is wrong."""
        try:
            means, stds = (torch.as_tensor(part, dtype=torch.float64).cpu() for part in scales)  # type: ignore[attr-defined]
            if torch.broadcast_shapes(means.shape, stds.shape, shape) != shape:  # type: ignore[no-untyped-call]  # of torch
                raise ValueError(f"shapes {tuple(means.shape)} and {tuple(stds.shape)}")
        except Exception as error:  # the attribute may be any object
            raise _wrong_scales(f"received {describe_error(error)}", shape) from error
        means, stds = torch.broadcast_tensors(means, stds)  # type: ignore[no-untyped-call]  # of torch
        if means.numel() > MOST_SCALES:
            raise _wrong_scales(f"received {means.numel():,} of each; at most {MOST_SCALES:,} are possible", shape)
        for values in (means.float(), stds.float()):
            if not values.isfinite().all():
                raise _wrong_scales("one is not finite as float32", shape)
        if not (stds.float() > 0).all():
            raise _wrong_scales(f"the standard deviation {float(stds.min()):g} is not above 0", shape)
        return cls(tuple(means.shape), tuple(means.flatten().tolist()), tuple(stds.flatten().tolist()))

    def to_pair(self) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations, as the `scales` attribute of a dataset has them."""
        means, stds = (torch.tensor(part, dtype=torch.float64).reshape(self.shape) for part in (self.means, self.stds))
        return means, stds

    def to_data(self) -> dict[str, list[int] | list[float]]:
        """Return plain data for JSON."""
        return {"shape": list(self.shape), "means": list(self.means), "stds": list(self.stds)}

    def standardize(self, stored: Tensor) -> Tensor:
        """Return (x - mean) / std of stored samples (N, …)."""
        means, stds = _scale_tensors(self, stored.device)
        return (stored - means).div_(stds)

    def restore(self, standardized: Tensor) -> Tensor:
        """Return the samples (N, …) in the units of the data."""
        means, stds = _scale_tensors(self, standardized.device)
        return (standardized * stds).add_(means)


@lru_cache(maxsize=8)
def _scale_tensors(scales: Scales, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return means and standard deviations as float32 tensors on the device."""
    means, stds = scales.to_pair()
    return means.float().to(device), stds.float().to(device)


def _wrong_scales(problem: str, shape: tuple[int, ...]) -> DataError:
    return DataError(
        f"`scales` of a dataset must be (means, standard deviations), numbers that can be broadcast to a sample of "
        f"shape {shape}; {problem}",
        "use a standard deviation of 1 for values that are constant, or leave `scales` out",
    )


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """How the samples of a dataset are stored.

    `uint8` in 0..255, which networks see in [-1, 1]; or `float32`, which networks see as it is, mapped from
    `value_range` to [-1, 1], or standardized by `scales`.
    """

    dtype: Literal["uint8", "float32"] = "uint8"
    value_range: tuple[float, float] | None = None
    scales: Scales | None = None

    @classmethod
    def of(cls, sample: Tensor, value_range: object = None, scales: object = None) -> SampleFormat:
        """Return the format of a stored sample of a dataset with these attributes. Raise DataError if one is wrong."""
        if sample.dtype == torch.uint8:
            for name, given in (("value_range", value_range), ("scales", scales)):
                if given is not None:
                    raise DataError(f"{name} is for float32 data; uint8 data always has 0..255", f"leave {name} out")
            return cls("uint8")
        if scales is not None:
            if value_range is not None:
                raise DataError(
                    "a dataset has either value_range or scales; this one has both", "leave one of them out"
                )
            return cls("float32", scales=Scales.of(scales, tuple(sample.shape)))
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
            return self.comparable(stored)
        low, high = self.value_range
        return (stored - low).mul_(2 / (high - low)).sub_(1)

    def to_stored(self, generated: Tensor) -> Tensor:
        """Return generated samples (N, …) as they are stored: in the range or the units of the data, uint8 rounded."""
        if self.dtype == "uint8":
            return generated.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        if self.value_range is None:
            return generated if self.scales is None else self.scales.restore(generated)
        low, high = self.value_range
        return generated.clamp(-1, 1).add(1).mul((high - low) / 2).add(low)

    def comparable(self, stored: Tensor) -> Tensor:
        """Return stored samples (N, …) as metrics and the collapse guard compare them.

        Standardized by `scales`, or mapped from `value_range` to 0..255, the range of pictures with 8 bits.
        """
        if self.value_range is not None:
            low, high = self.value_range
            return (stored - low).mul_(255 / (high - low))
        return stored if self.scales is None else self.scales.standardize(stored)


UINT8 = SampleFormat("uint8")


def format_of(dataset: object, sample: Tensor) -> SampleFormat:
    """Return the format of a built dataset, of which `sample` is a stored one. Raise DataError if it is wrong."""
    return SampleFormat.of(sample, getattr(dataset, "value_range", None), getattr(dataset, "scales", None))


def pictures_to_network(stored: Tensor) -> Tensor:
    """Return uint8 values in 0..255 as torch's default float type in [-1, 1]."""
    return stored.div(127.5).sub_(1)


def condition_to_network(stored: Tensor) -> Tensor:
    """Return stored conditions as networks see them: uint8 in [-1, 1], labels int64 and float32 tensors unchanged."""
    return pictures_to_network(stored) if stored.dtype == torch.uint8 else stored
