"""A network with random weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Shape
from gancore.metrics import Extractor, Features

_SIDE = 32
"""Longer sides of images, series and volumes are average-pooled to this length."""
_POOL = {
    1: nn.functional.adaptive_avg_pool1d,
    2: nn.functional.adaptive_avg_pool2d,
    3: nn.functional.adaptive_avg_pool3d,
}


class RandomExtractor(Extractor):
    """Fixed random network with one hidden layer of ReLU: no training, no download, any samples.

    It has not learned to ignore anything. Random features work surprisingly well for metrics, Naeem et al. 2020,
    section 5 (arXiv:2002.09797).
    """

    name = "random"
    width: int = Field(default=1024, ge=1, le=65536, description="hidden units")
    features: int = Field(default=64, ge=1, le=4096, description="number of features D")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="random seed of the weights")

    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        return _Network(shape, self.width, self.features, self.seed)


class _Network(nn.Module):
    def __init__(self, shape: Shape, width: int, features: int, seed: int) -> None:
        super().__init__()
        inputs = math.prod((shape[0], *_pooled_sides(shape[1:])))
        rng = torch.Generator().manual_seed(seed)
        # He et al. 2015 (arXiv:1502.01852), so that features have the scale of pixels.
        self.register_buffer("hidden", torch.randn(inputs, width, generator=rng) * math.sqrt(2 / inputs))
        self.register_buffer("out", torch.randn(width, features, generator=rng) * math.sqrt(1 / width))
        self.hidden: Tensor
        self.out: Tensor

    def forward(self, images: Tensor) -> Features:
        inputs = images.float()
        if images.ndim == 4 or images.dtype == torch.uint8:
            inputs = inputs / 255
        if pool := _POOL.get(images.ndim - 2):
            inputs = pool(inputs, _pooled_sides(images.shape[2:]))  # type: ignore[arg-type]  # of one side for series
        return Features((inputs.flatten(1) @ self.hidden).relu() @ self.out)  # (N, D)


def _pooled_sides(sides: Sequence[int]) -> tuple[int, ...]:
    """Return the sides after pooling; more than three stay as they are."""
    return tuple(min(side, _SIDE) for side in sides) if len(sides) in _POOL else tuple(sides)
