"""Maps of colors: one matrix per image, composed of simple ones and executed once.

After Karras et al. 2020 (arXiv:2006.06676), appendix B. Matrices (N, 4, 4) act on colors (red, green, blue, 1) with
values in [-1, 1]. The matrix of several operations is the product of theirs, the last operation first. Luma is the
direction of gray, v = (1, 1, 1) / √3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHANNELS = (1, 3, 4)
"""Numbers of channels that are colors: gray; red, green and blue; and these with alpha."""


def identity(images: Tensor) -> Tensor:
    """Return the matrices (N, 4, 4) that keep images (N, C, H, W)."""
    return torch.eye(4, device=images.device, dtype=images.dtype).expand(len(images), 4, 4)


def brightness(amount: Tensor) -> Tensor:
    """Return the matrices (N, 4, 4) that add amounts (N,) to all colors."""
    return _linear(torch.ones_like(amount), offset=amount)


def contrast(factor: Tensor) -> Tensor:
    """Return the matrices (N, 4, 4) that multiply all colors by factors (N,)."""
    return _linear(factor)


def luma_flip(chosen: Tensor) -> Tensor:
    """Return the matrices (N, 4, 4) that negate the luma of the chosen images (N,) and keep the rest, I - 2 v vᵀ."""
    return _linear(torch.ones_like(chosen), along=-2 * chosen)


def hue(angle: Tensor) -> Tensor:
    """Return the matrices (N, 4, 4) of rotations around the luma by angles (N,) in radians."""
    cosine = angle.cos()
    return _linear(cosine, along=1 - cosine, across=angle.sin())


def saturation(factor: Tensor) -> Tensor:
    """Return the matrices (N, 4, 4) that multiply what differs from gray by factors (N,), v vᵀ + s (I - v vᵀ)."""
    return _linear(factor, along=1 - factor)


def _linear(
    every: Tensor, along: Tensor | None = None, across: Tensor | None = None, offset: Tensor | None = None
) -> Tensor:
    """Return `every` I + `along` v vᵀ + `across` [v]ₓ of (N,) each, with an offset for all colors."""
    identity = torch.eye(3, device=every.device, dtype=every.dtype)
    colors = every[:, None, None] * identity  # (N, 3, 3)
    if along is not None:
        colors = colors + along[:, None, None] / 3  # v vᵀ is 1/3 everywhere
    if across is not None:
        cross = (identity.roll(1, 0) - identity.roll(-1, 0)) / math.sqrt(3)
        colors = colors + across[:, None, None] * cross
    matrix = torch.eye(4, device=every.device, dtype=every.dtype).repeat(len(every), 1, 1)  # (N, 4, 4)
    matrix[:, :3, :3] = colors
    if offset is not None:
        matrix[:, :3, 3] = offset.unsqueeze(1)
    return matrix


def recolor(images: Tensor, matrix: Tensor) -> Tensor:
    """Return images (N, C, H, W) with colors changed by a matrix (N, 4, 4) each; C is one of `CHANNELS`.

    A gray image is one whose colors are equal; what it becomes is averaged to gray, so that hue and saturation have no
    effect on it. Alpha stays as it is.
    """
    channels, offset = images.shape[1], matrix[:, :3, 3:]  # (N, 3, 1)
    if channels == 1:
        slope = matrix[:, :3, :3].sum(dim=(1, 2)) / 3  # (N,)
        return images * slope[:, None, None, None] + offset.mean(dim=(1, 2))[:, None, None, None]
    changed = torch.baddbmm(offset, matrix[:, :3, :3], images[:, :3].flatten(2)).reshape(images[:, :3].shape)
    return changed if channels == 3 else torch.cat([changed, images[:, 3:]], dim=1)
