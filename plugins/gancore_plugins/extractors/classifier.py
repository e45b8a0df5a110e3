"""A small classifier that is trained on the dataset's own labels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gancore.contracts import Shape
from gancore.errors import ConfigError
from gancore.metrics import Features, LearnedExtractor
from gancore_plugins.extractors.small_cnn import FEATURES, SmallCNN


class ClassifierExtractor(LearnedExtractor):
    """Small strided CNN, first trained on the classes of the data; 64 features before the last activation.

    Distances between its features are not FID. They can only be compared with distances of the same digest: another
    seed, machine or dataset gives another classifier.
    """

    name = "classifier"

    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        if len(shape) != 3 or num_classes is None:
            what = "images" if len(shape) == 3 else "vectors"
            raise ConfigError(
                f"extractor classifier needs labeled images (C, H, W); received {what} of shape {shape}, "
                f"{num_classes or 'no'} classes",
                "use another extractor: self-supervised learns from images without labels, random takes anything",
            )
        return _Classifier(shape, num_classes)


class _Classifier(SmallCNN):
    """Images uint8 (N, C, H, W) to features (N, 64) and logits (N, K). Training images are shifted at random."""

    def __init__(self, shape: Shape, num_classes: int) -> None:
        super().__init__(shape)
        self._max_shift = min(shape[1:]) // 14
        self.classes = nn.Linear(FEATURES, num_classes)

    def forward(self, images: Tensor) -> Features:
        if self.training and self._max_shift:
            images = _shift(images, self._max_shift)
        features = self.encode(self.standardize(images))  # (N, 64)
        return Features(features, self.classes(features.relu()))


def _shift(images: Tensor, most: int) -> Tensor:
    """Shift each image (N, C, H, W) by a random offset of up to `most` pixels; uncovered pixels are zero."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (most, most, most, most))
    down, right = torch.randint(0, 2 * most + 1, (2, count), device=images.device)
    rows = (down.unsqueeze(1) + torch.arange(height, device=images.device)).unsqueeze(2)  # (N, H, 1)
    columns = (right.unsqueeze(1) + torch.arange(width, device=images.device)).unsqueeze(1)  # (N, 1, W)
    numbers = torch.arange(count, device=images.device)[:, None, None]  # (N, 1, 1)
    return padded.permute(0, 2, 3, 1)[numbers, rows, columns].permute(0, 3, 1, 2)
