"""Widths of networks: the numbers of channels and units that the key `size` of a config scales."""

from __future__ import annotations

from gancore.contracts import Spec


def scaled(width: int, spec: Spec, *, multiple: int = 1) -> int:
    """Return the width times `spec.width_factor`, rounded to a multiple of `multiple` and at least that.

    A factor of 1 returns the width itself.
    """
    if spec.width_factor == 1:
        return width
    return multiple * max(1, round(width * spec.width_factor / multiple))


def halved(width: int, side: int, full_side: int) -> int:
    """Return the channels at `side` pixels: the width up to `full_side`, half of it for each doubling above, 1 or more.

    Sides between two powers of 2 times `full_side` count as the larger one.
    """
    while side > full_side:
        width, side = max(1, width // 2), -(-side // 2)
    return width
