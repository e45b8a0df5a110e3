"""The sizes that convolutional networks go through: halved or doubled, down to a base of four to seven pixels or so."""

from __future__ import annotations

from dataclasses import dataclass

from gancore.contracts import Shape
from gancore.errors import ConfigError

LEAST = 4
"""The smallest side of a base."""


def image_shape(shape: Shape, who: str) -> tuple[int, int, int]:
    """The shape of images (C, H, W). Raises ConfigError for vectors."""
    if len(shape) != 3:
        raise ConfigError(
            f"{who} is convolutional, and takes images (C, H, W); this data has shape {tuple(shape)}",
            "choose mlp instead",
        )
    channels, height, width = shape
    return channels, height, width


@dataclass(frozen=True)
class UpsamplingPlan:
    """Images (C, H, W), which are as large as the base (h, w) doubled so many times."""

    channels: int
    base: tuple[int, int]
    doublings: int

    @classmethod
    def of(cls, shape: Shape, who: str) -> UpsamplingPlan:
        """As many doublings as the sides allow with a base of at least four pixels.

        Raises ConfigError for vectors, and for images that cannot be halved once.
        """
        channels, height, width = image_shape(shape, who)
        doublings = 0
        while all(side % 2 ** (doublings + 1) == 0 and side >> (doublings + 1) >= LEAST for side in (height, width)):
            doublings += 1
        if doublings == 0:
            raise ConfigError(
                f"{who} halves images, so both sides must be even and at least {2 * LEAST}; received {height}x{width}",
                "choose mlp instead, or another size for the data",
            )
        return cls(channels, (height >> doublings, width >> doublings), doublings)
