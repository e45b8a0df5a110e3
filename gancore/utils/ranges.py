"""Ranges of image values: 0..255 where images are stored, [-1, 1] where networks see them."""

from __future__ import annotations

import torch
from torch import Tensor


def to_network_range(stored: Tensor) -> Tensor:
    """Return uint8 images in 0..255 as torch's default float type in [-1, 1]; vectors unchanged."""
    return stored.to(torch.get_default_dtype()).div_(127.5).sub_(1) if stored.dtype == torch.uint8 else stored


def to_stored_range(images: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, rounded and clamped; vectors (N, F) unchanged."""
    return images if images.ndim == 2 else images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
