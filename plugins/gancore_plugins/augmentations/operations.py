"""Changes to images (N, C, H, W) in [-1, 1], each image by random parameters of its own, all differentiable."""

from __future__ import annotations

import torch
from torch import Tensor


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """A number in [low, high) for each image, (N, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype) * (high - low) + low


def color(images: Tensor) -> Tensor:
    """Brightness by up to a fourth of the range, then saturation by up to 2 and contrast by 0.5 to 1.5."""
    images = images + _uniform(images, -0.5, 0.5)
    gray = images.mean(dim=1, keepdim=True)
    images = gray + (images - gray) * _uniform(images, 0.0, 2.0)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return middle + (images - middle) * _uniform(images, 0.5, 1.5)


def translation(images: Tensor, share: float = 1 / 8) -> Tensor:
    """Moved by whole pixels, up to this share of each side; what comes in is 0, as the middle of the range is."""
    _, _, height, width = images.shape
    rows, columns = (_moved(images, side, int(side * share + 0.5)) for side in (height, width))
    inside = rows[1].unsqueeze(2) & columns[1].unsqueeze(1)
    place = rows[0].unsqueeze(2) * width + columns[0].unsqueeze(1)  # (N, H, W)
    chosen = images.flatten(2).gather(2, place.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1))
    return chosen.reshape(images.shape) * inside.unsqueeze(1)


def _moved(images: Tensor, side: int, most: int) -> tuple[Tensor, Tensor]:
    """For each image and pixel of the side, where it comes from, and whether that lies inside: both (N, side)."""
    moves = torch.randint(-most, most + 1, (len(images), 1), device=images.device)
    places = torch.arange(side, device=images.device) + moves
    return places.clamp(0, side - 1), (places >= 0) & (places < side)


def cutout(images: Tensor, share: float = 1 / 2) -> Tensor:
    """A rectangle, this share of each side, set to 0; its middle lies anywhere in the image."""
    hidden = [_hidden(images, side, share) for side in images.shape[2:]]
    rectangle = hidden[0].unsqueeze(2) & hidden[1].unsqueeze(1)
    return images * ~rectangle.unsqueeze(1)


def _hidden(images: Tensor, side: int, share: float) -> Tensor:
    """For each image, which pixels of the side are hidden, (N, side)."""
    length = int(side * share + 0.5)
    begin = torch.randint(0, side + 1, (len(images), 1), device=images.device) - length // 2
    places = torch.arange(side, device=images.device)
    return (places >= begin) & (places < begin + length)


def flip(images: Tensor) -> Tensor:
    """Mirrored, left to right, every other time."""
    return torch.where(_uniform(images, 0, 1) < 0.5, images.flip(3), images)
