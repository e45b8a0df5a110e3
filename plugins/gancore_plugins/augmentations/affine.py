"""Affine maps of images: one matrix per image, composed of simple ones and executed once.

After Karras et al. 2020 (arXiv:2006.06676), appendix B. Matrices (N, 3, 3) act on points (x, y, 1) in pixels from the
center of an image, x to the right and y down. They map a point of the result to the point of the image that it shows.
So the matrix of several operations is the product of theirs in the order of the operations.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_LOBES = 3
"""Zero crossings on each side of the Lanczos filter."""
_LEVELS = 9
"""Number of low-pass filters, for images that shrink by 1 to 2."""


def identity(images: Tensor) -> Tensor:
    """Return the matrices (N, 3, 3) that keep images (N, C, H, W)."""
    return torch.eye(3, device=images.device, dtype=images.dtype).expand(len(images), 3, 3)


def flip(chosen: Tensor) -> Tensor:
    """Return the matrices (N, 3, 3) that mirror the chosen images (N,) left to right."""
    return scaling(1 - 2 * chosen, torch.ones_like(chosen))


def quarter_turns(turns: Tensor) -> Tensor:
    """Return the matrices (N, 3, 3) of counterclockwise rotations by 90 degrees, `turns` (N,) in 0..3 times."""
    cosine = (turns == 0).to(turns.dtype) - (turns == 2).to(turns.dtype)  # exact, unlike the cosine of a float
    sine = (turns == 1).to(turns.dtype) - (turns == 3).to(turns.dtype)
    return _matrix(cosine, -sine, sine, cosine)


def rotation(angle: Tensor) -> Tensor:
    """Return the matrices (N, 3, 3) of counterclockwise rotations by angles (N,) in radians."""
    cosine, sine = angle.cos(), angle.sin()
    return _matrix(cosine, -sine, sine, cosine)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Return the matrices (N, 3, 3) that make images `x` (N,) times as wide and `y` (N,) times as high."""
    zero = torch.zeros_like(x)
    return _matrix(1 / x, zero, zero, 1 / y)


def translation(x: Tensor, y: Tensor) -> Tensor:
    """Return the matrices (N, 3, 3) that move images by `x` (N,) pixels to the right and `y` (N,) down."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix(one, zero, zero, one, -x, -y)


def _matrix(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
    zero, one = torch.zeros_like(xx), torch.ones_like(xx)
    rows = (xx, xy, zero if x is None else x, yx, yy, zero if y is None else y, zero, zero, one)
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def resample(images: Tensor, matrix: Tensor) -> Tensor:
    """Return images (N, C, H, W), each transformed by its matrix (N, 3, 3). Differentiable twice in the images.

    Outside of an image are its reflections. Images are sampled bilinearly after a Lanczos filter has doubled their
    resolution. For images that shrink, that filter is wider, by the size of a pixel of the result along each axis of
    the image, so that shrinking by up to 2 does not alias. The paper filters by a wavelet (sym6) before and after
    sampling, at four times as many points as the result has pixels. Here, moves by whole pixels, mirroring and
    rotations of squares by 90 degrees are exact, up to rounding.
    """
    height, width = images.shape[2:]
    x_row, y_row = matrix[:, 0], matrix[:, 1]  # (N, 3)
    down = _filters(height, images.device, images.dtype)[_level(y_row)].unsqueeze(1)  # (N, 1, 2 H - 1, H)
    across = _filters(width, images.device, images.dtype)[_level(x_row)]  # (N, 2 W - 1, W)
    wider = (images.flatten(1, 2) @ across.mT).reshape(*images.shape[:3], -1)  # (N, C, H, 2 W - 1)
    finer = down @ wider  # (N, C, 2 H - 1, 2 W - 1)
    grid = torch.stack((_sources(x_row, height, width, width), _sources(y_row, height, width, height)), dim=3)
    sampled: Tensor = functional.grid_sample(finer, grid, padding_mode="reflection", align_corners=True)
    return sampled  # (N, C, H, W)


def _sources(row: Tensor, height: int, width: int, side: int) -> Tensor:
    """Return one coordinate (N, H, W) of the sources of all pixels, in -1..1 between the centers of the outer pixels.

    `row` (N, 3) is that of the matrix, and `side` the number of pixels along the coordinate.
    """
    x = torch.arange(width, device=row.device, dtype=row.dtype) - (width - 1) / 2  # (W,)
    y = torch.arange(height, device=row.device, dtype=row.dtype).unsqueeze(1) - (height - 1) / 2  # (H, 1)
    by_x, by_y, offset = (row * (2 / max(side - 1, 1)))[:, :, None, None].unbind(1)  # (N, 1, 1) each
    return by_x * x + (by_y * y + offset)


def _level(row: Tensor) -> Tensor:
    """Return which filter (N,) fits: the distance of the sources of neighboring pixels, along one axis of the image."""
    distance = row[:, :2].square().sum(dim=1).sqrt()  # (N,)
    return (distance.clamp(1, 2).log2() * (_LEVELS - 1)).round().long()


@lru_cache(maxsize=16)
def _filters(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return matrices (levels, 2 side - 1, side) that double the resolution of a line of pixels, and low-pass it.

    Level l suits a line that shrinks by 2^(l / (levels - 1)). Beyond its ends are reflections about the outer pixels.
    """
    stretches = 2 ** np.linspace(0, 1, _LEVELS)[:, None, None]
    taps = np.arange(-2 * _LOBES, side + 2 * _LOBES)
    distance = (np.arange(2 * side - 1)[:, None] / 2 - taps) / stretches  # (levels, 2 side - 1, taps)
    weights = np.where(np.abs(distance) < _LOBES, np.sinc(distance) * np.sinc(distance / _LOBES), 0)
    weights /= weights.sum(axis=2, keepdims=True)
    period = max(2 * side - 2, 1)
    sources = np.minimum(taps % period, -taps % period)
    filters = weights @ (sources[:, None] == np.arange(side))
    with torch.inference_mode(False):  # what is kept is used in training too
        return torch.tensor(filters, device=device, dtype=dtype)
