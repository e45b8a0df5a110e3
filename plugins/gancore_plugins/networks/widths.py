"""Widths of networks: the numbers of channels and units that the key `size` of a config scales."""

from __future__ import annotations

from math import prod

from pydantic import Field

from gancore.contracts import Component, Spec

FULL_SIDE = 64
"""The side in pixels of the largest square features that have all channels."""
BOUNDED = "up to 64x64 pixels, and half as many for each doubling above"
"""How the help text of a width ends, where `bounded` applies."""
DOUBLED = "channels of the layer next to the image; each halving of the image doubles them"
"""Help text of the width of networks with `DoubledWidths`."""


class DoubledWidths(Component):
    """Fields of networks whose channels double with each halving of the image, up to a limit."""

    width: int = Field(default=64, ge=1, le=4096, description=DOUBLED)
    max_width: int | None = Field(
        default=None, ge=1, le=65536, description="largest number of channels of a layer; absent: 8 times `width`"
    )

    def widths(self, spec: Spec, count: int) -> list[int]:
        """Return the channels of `count` layers, from the one next to the image, at the size of the run."""
        width = scaled(self.width, spec)
        most = 8 * width if self.max_width is None else scaled(self.max_width, spec)
        return [min(width * 2**index, most) for index in range(count)]


def scaled(width: int, spec: Spec, *, multiple: int = 1) -> int:
    """Return the width times `spec.width_factor`, rounded to a multiple of `multiple` and at least that.

    A factor of 1 returns the width itself.
    """
    if spec.width_factor == 1:
        return width
    return multiple * max(1, round(width * spec.width_factor / multiple))


def bounded(width: int, size: tuple[int, int], *, full_side: int = FULL_SIDE, multiple: int = 1) -> int:
    """Return the channels of features (C, H, W) at a size (H, W), so that large images stay affordable.

    That is the width up to `full_side` x `full_side` pixels and, for each fourfold number of pixels above, half of it,
    rounded to a multiple of `multiple` and at least that. Then a convolution costs about the same at each size.
    """
    pixels, channels = float(prod(size)), width
    while pixels > full_side**2:
        pixels, channels = pixels / 4, multiple * max(1, round(channels / 2 / multiple))
    return channels
