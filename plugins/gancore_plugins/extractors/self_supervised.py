"""A small network that learns from pictures without labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, normalize

from gancore.contracts import Shape
from gancore.errors import ConfigError
from gancore.metrics import Features, LearnedExtractor
from gancore_plugins.extractors.small_cnn import FEATURES, SmallCNN

_TEMPERATURE = 0.2
_MAX_ANGLE = math.radians(15)
_SCALES = (0.65, 1.1)
"""Lengths of the side of the part that a view shows, in sides of the image."""
_MAX_OFFSET = 0.2
"""How far the center of a view is from that of the image, in half sides."""
_MAX_CHANGE = 0.3
"""Of the contrast, as a share, and of the brightness, in standard deviations."""


class SelfSupervisedExtractor(LearnedExtractor):
    """Small strided CNN that first learns to recognize images of the data, without labels; 64 features.

    From a distorted view of each image in a batch it finds the other view of the same image: the contrastive loss of
    Chen et al. 2020 (arXiv:2002.05709) with pairs across views. Views are turned, zoomed, moved, and changed in
    brightness and contrast, never blurred, noisy or mirrored, so that features tell such images apart. Distances can
    only be compared with distances of the same digest, as those of the extractor classifier.
    """

    name = "self-supervised"
    needs_labels: ClassVar[bool] = False
    epochs: int = Field(default=16, ge=1, le=1000, description="passes over the training images")

    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        if len(shape) != 3:
            raise ConfigError(
                f"extractor self-supervised needs images (C, H, W); received shape {shape}",
                "use another extractor, such as random",
            )
        return _Encoder(shape)


class _Encoder(SmallCNN):
    """Images (N, C, H, W) in 0..255 to features (N, 64); in training also to logits (N, N): which views are a pair."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.projection = nn.Sequential(nn.ReLU(), nn.Linear(FEATURES, FEATURES, bias=False))

    def forward(self, images: Tensor) -> Features:
        inputs = self.standardize(images)
        if not self.training:
            return Features(self.encode(inputs))
        features = self.encode(torch.cat([_view(inputs), _view(inputs)]))  # (2N, 64)
        first, second = normalize(self.projection(features)).chunk(2)
        return Features(features, first @ second.T / _TEMPERATURE)


def _view(images: Tensor) -> Tensor:
    """Distort each image (N, C, H, W) at random: turned, zoomed, moved, other brightness and contrast."""
    angle, scale, right, down, contrast, brightness = torch.rand(6, len(images), device=images.device) * 2 - 1
    angle = angle * _MAX_ANGLE
    scale = (scale + 1) / 2 * (_SCALES[1] - _SCALES[0]) + _SCALES[0]
    rows = [
        torch.stack([scale * angle.cos(), -scale * angle.sin(), right * _MAX_OFFSET], dim=1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), down * _MAX_OFFSET], dim=1),
    ]
    grid = affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast, brightness = ((_MAX_CHANGE * each).view(-1, 1, 1, 1) for each in (contrast, brightness))
    return torch.addcmul(brightness, moved, 1 + contrast)
