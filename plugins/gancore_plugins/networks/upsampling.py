"""The resolutions that convolutional networks go through: a small base, doubled until it is the image's size."""

from __future__ import annotations

from dataclasses import dataclass

from gancore.contracts import Shape
from gancore.errors import ConfigError

MIN_BASE_SIDE = 4
"""The smallest height or width of a base, in pixels."""


def image_shape(shape: Shape, component: str) -> tuple[int, int, int]:
    """Return the shape of images as (C, H, W). Raise ConfigError for vectors, with the component's name."""
    if len(shape) != 3:
        raise ConfigError(
            f"{component} is convolutional and needs images (C, H, W); the data has shape {tuple(shape)}", "use mlp"
        )
    channels, height, width = shape
    return channels, height, width


@dataclass(frozen=True)
class UpsamplingPlan:
    """Images (C, H, W) as a base (h, w) doubled `doublings` times: H = h * 2^doublings, W = w * 2^doublings."""

    channels: int
    base: tuple[int, int]
    doublings: int

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The size (H, W) of each resolution: the base first, the image last."""
        height, width = self.base
        return [(height * 2**done, width * 2**done) for done in range(self.doublings + 1)]

    @classmethod
    def for_shape(cls, shape: Shape, component: str) -> UpsamplingPlan:
        """Return the plan with the most doublings that leaves a base of at least 4x4 pixels.

        Raise ConfigError, with the component's name, for vectors and for images that cannot be halved once.
        """
        channels, height, width = image_shape(shape, component)
        base, doublings = (height, width), 0
        while all(side % 2 == 0 and side // 2 >= MIN_BASE_SIDE for side in base):
            base, doublings = (base[0] // 2, base[1] // 2), doublings + 1
        if doublings == 0:
            raise ConfigError(
                f"{component} halves images, so both sides must be even and at least {2 * MIN_BASE_SIDE}; received "
                f"{height}x{width}",
                "use mlp, or another size, such as {}x{} (height x width)".format(*map(_nearest, (height, width))),
            )
        return cls(channels, base, doublings)


def _nearest(side: int) -> int:
    """Return the nearest side that can be halved to at least 4 pixels, as often as possible up to 3 times."""
    step = (2, 4, 8)[max(0, min(2, side.bit_length() - MIN_BASE_SIDE.bit_length() - 1))]
    return max(2 * MIN_BASE_SIDE, round(side / step) * step)
