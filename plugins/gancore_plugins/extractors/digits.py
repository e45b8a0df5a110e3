"""A small classifier, taught on the data's own labels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gancore.contracts import Shape
from gancore.errors import ConfigError
from gancore.metrics import Features, LearnedExtractor


class DigitsExtractor(LearnedExtractor):
    """Small strided CNN that learns the classes of the data first; 64 features before the last activation.

    About 5 million multiply-adds for a digit of 28x28. Distances of its features are no FID, and compare only with
    distances under the same digest: a classifier of another seed, machine or dataset is another ruler.
    """

    name = "digits"

    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        if len(shape) != 3 or num_classes is None:
            what = "images" if len(shape) == 3 else "vectors"
            raise ConfigError(
                f"digits reads labeled images (C, H, W); received {what} of shape {shape}, "
                f"{num_classes or 'no'} classes",
                "choose another extractor, such as random",
            )
        return _Classifier(shape, num_classes)


class _Classifier(nn.Module):
    """Images uint8 (N, C, H, W); shifted at random by a fourteenth of their side in training."""

    def __init__(self, shape: Shape, num_classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self._reach = min(height, width) // 14
        self.standardized = nn.BatchNorm2d(channels, affine=False)
        self.body = nn.Sequential(*_layer(channels, 30, 2), *_layer(30, 60, 1), *_layer(60, 60, 2), nn.Flatten())
        flat = 60 * -(-height // 4) * -(-width // 4)
        # Standardized, so that a distance of 1 means the same under every classifier: a feature's own deviation.
        self.features = nn.Sequential(nn.Linear(flat, 64, bias=False), nn.BatchNorm1d(64, affine=False))
        self.classes = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Features:
        seen = _shifted(images, self._reach) if self.training and self._reach else images
        features: Tensor = self.features(self.body(self.standardized(seen.float().div(255))))
        return Features(features, self.classes(features.relu()))


def _layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _shifted(images: Tensor, reach: int) -> Tensor:
    """Every image by an offset of its own, up to `reach` pixels to any side; what is uncovered is zero."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (reach, reach, reach, reach))
    down, right = torch.randint(0, 2 * reach + 1, (2, count), device=images.device)
    rows = (down.unsqueeze(1) + torch.arange(height, device=images.device)).unsqueeze(2)
    columns = (right.unsqueeze(1) + torch.arange(width, device=images.device)).unsqueeze(1)
    every = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[every, rows, columns].permute(0, 3, 1, 2)
