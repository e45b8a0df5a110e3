"""A network with random weights."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Shape
from gancore.metrics import Extractor, Features

_SIDE = 32
"""Larger images are average-pooled to this height and width."""


class RandomExtractor(Extractor):
    """Fixed random network with one hidden layer of ReLU: no training, no download, any images or vectors.

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
        inputs = math.prod((shape[0], *(min(side, _SIDE) for side in shape[1:])))
        rng = torch.Generator().manual_seed(seed)
        # He et al. 2015 (arXiv:1502.01852), so that features have the scale of pixels.
        self.register_buffer("hidden", torch.randn(inputs, width, generator=rng) * math.sqrt(2 / inputs))
        self.register_buffer("out", torch.randn(width, features, generator=rng) * math.sqrt(1 / width))
        self.hidden: Tensor
        self.out: Tensor

    def forward(self, images: Tensor) -> Features:
        inputs = images
        if images.ndim == 4:
            height, width = (min(side, _SIDE) for side in images.shape[2:])
            inputs = nn.functional.adaptive_avg_pool2d(images.float() / 255, (height, width))
        return Features((inputs.flatten(1) @ self.hidden).relu() @ self.out)  # (N, D)
