"""The resolutions that convolutional networks go through: a small base, doubled until it has the image's size.

Sides that cannot be halved down to a small base are rounded up: G makes a few pixels more, which are cut off, and D
sees a border of zeros. So no network gets a first layer for thousands of pixels, and odd sides fit too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn
from torch.nn.functional import pad

from gancore.contracts import Component, Shape
from gancore.errors import ConfigError

MIN_BASE_SIDE = 4
"""The smallest height or width of a base, in pixels."""
_MAX_BASE_PIXELS = 400
"""Most pixels of a base where a smaller one is possible, since layers for a base grow with them.

Where exact halvings leave more, sides are rounded up.
"""


def image_shape(shape: Shape, component: Component) -> tuple[int, int, int]:
    """Return the shape of images as (C, H, W). Raise ConfigError for vectors, with the component's name."""
    if len(shape) != 3:
        raise ConfigError(
            f"{component.kind} {component.name} is convolutional and needs images (C, H, W); the data has shape "
            f"{tuple(shape)}",
            "use mlp",
        )
    channels, height, width = shape
    return channels, height, width


@dataclass(frozen=True)
class UpsamplingPlan:
    """Images (C, H, W) made from a base (h, w): doubled `doublings` times, then cropped by `margin` (rows, columns).

    H + rows = h * 2^doublings, W + columns = w * 2^doublings.
    """

    channels: int
    base: tuple[int, int]
    doublings: int
    margin: tuple[int, int] = (0, 0)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The size (H, W) of each resolution: the base first, the image with its margin last."""
        height, width = self.base
        return [(height * 2**done, width * 2**done) for done in range(self.doublings + 1)]

    @classmethod
    def for_shape(cls, shape: Shape, component: Component) -> UpsamplingPlan:
        """Return the plan with the most doublings that leaves a base of at least 4x4 pixels, and no margin.

        If the base would be large or the sides are odd, return the one with the fewest doublings that leaves a small
        base, with a margin. Raise ConfigError, with the component's name, for vectors and for images below 8x8.
        """
        channels, height, width = image_shape(shape, component)
        if min(height, width) < 2 * MIN_BASE_SIDE:
            least = 2 * MIN_BASE_SIDE
            raise ConfigError(
                f"{component.kind} {component.name} halves images, so both sides must be at least {least}; received "
                f"{height}x{width}",
                f"use mlp, or another size, such as {max(height, least)}x{max(width, least)} (height x width)",
            )
        base, doublings = (height, width), 0
        while all(side % 2 == 0 and side // 2 >= MIN_BASE_SIDE for side in base):
            base, doublings = (base[0] // 2, base[1] // 2), doublings + 1
        if doublings and prod(base) <= _MAX_BASE_PIXELS:
            return cls(channels, base, doublings)
        base, doublings = (height, width), 0
        while not doublings or (prod(base) > _MAX_BASE_PIXELS and min(base) >= 2 * MIN_BASE_SIDE):
            base, doublings = ((base[0] + 1) // 2, (base[1] + 1) // 2), doublings + 1
        return cls(channels, base, doublings, ((base[0] << doublings) - height, (base[1] << doublings) - width))

    def cropping(self) -> list[nn.Module]:
        """Return the layer that removes the margin of generated images; none without a margin."""
        return [Margin(*(-side for side in self.margin))] if any(self.margin) else []

    def padding(self) -> list[nn.Module]:
        """Return the layer that adds the margin to images, with zeros; none without a margin."""
        return [Margin(*self.margin)] if any(self.margin) else []


class Margin(nn.Module):
    """Images (N, C, H, W) with `rows` and `columns` of zeros more, half of them at each end; fewer if negative."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        (top, bottom), (left, right) = _halves(rows), _halves(columns)
        self.sides = left, right, top, bottom

    def forward(self, images: Tensor) -> Tensor:
        return pad(images, self.sides)


def _halves(count: int) -> tuple[int, int]:
    """Return two numbers of the same sign whose sum this is, the same for a number and its negative."""
    half = int(count / 2)  # toward zero
    return half, count - half
