"""Differentiable augmentations of images (N, C, H, W) in [-1, 1], with random parameters for each image."""

from __future__ import annotations

import torch
from torch import Tensor

_MOST_MOVE = 1 / 8
"""The largest move of `translation`, as a share of each side."""
_CUT = 1 / 2
"""Each side of the rectangle of `cutout`, as a share of the side of the image."""


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """Draw a number in [low, high) for each image, (N, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype) * (high - low) + low


def color(images: Tensor) -> Tensor:
    """Shift brightness by up to 0.5, then scale saturation by 0 to 2 and contrast by 0.5 to 1.5; alpha is kept."""
    if images.shape[1] == 4:
        return torch.cat([color(images[:, :3]), images[:, 3:]], dim=1)
    images = images + _uniform(images, -0.5, 0.5)
    gray = images.mean(dim=1, keepdim=True)  # (N, 1, H, W)
    images = gray + (images - gray) * _uniform(images, 0.0, 2.0)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    return mean + (images - mean) * _uniform(images, 0.5, 1.5)


def translation(images: Tensor) -> Tensor:
    """Move by whole pixels, up to 1/8 of each side; uncovered pixels are 0, the middle of the range."""
    _, _, height, width = images.shape
    rows, inside_rows = _sources(images, height, int(height * _MOST_MOVE + 0.5))  # (N, H)
    columns, inside_columns = _sources(images, width, int(width * _MOST_MOVE + 0.5))  # (N, W)
    inside = inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)  # (N, H, W)
    sources = rows.unsqueeze(2) * width + columns.unsqueeze(1)  # (N, H, W)
    moved = images.flatten(2).gather(2, sources.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1))  # (N, C, H W)
    return moved.reshape(images.shape) * inside.unsqueeze(1)


def _sources(images: Tensor, side: int, most: int) -> tuple[Tensor, Tensor]:
    """Draw a move by up to `most` pixels per image; return the source of each pixel and if it is inside, (N, side)."""
    moves = torch.randint(-most, most + 1, (len(images), 1), device=images.device)
    sources = torch.arange(side, device=images.device) + moves
    return sources.clamp(0, side - 1), (sources >= 0) & (sources < side)


def cutout(images: Tensor) -> Tensor:
    """Set a rectangle to 0, half as high and wide as the image, with its center anywhere in the image."""
    rows, columns = (_interval(images, side) for side in images.shape[2:])
    rectangle = rows.unsqueeze(2) & columns.unsqueeze(1)  # (N, H, W)
    return images * ~rectangle.unsqueeze(1)


def _interval(images: Tensor, side: int) -> Tensor:
    """Draw an interval of half a side for each image; return which pixels it covers, (N, side)."""
    length = int(side * _CUT + 0.5)
    start = torch.randint(0, side + 1 - length % 2, (len(images), 1), device=images.device) - length // 2
    positions = torch.arange(side, device=images.device)
    return (positions >= start) & (positions < start + length)


def flip(images: Tensor) -> Tensor:
    """Mirror left to right with probability 1/2."""
    return torch.where(_uniform(images, 0, 1) < 0.5, images.flip(3), images)
