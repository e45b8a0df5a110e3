"""The small network of the extractors that learn from the data."""

from __future__ import annotations

from torch import Tensor, nn

from gancore.contracts import Shape

FEATURES = 64


class SmallCNN(nn.Module):
    """Strided convolutions and a linear layer, for images of a shape (C, H, W).

    About 5 million multiply-adds for an image of 28x28.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels, height, width = shape
        self.standardized = nn.BatchNorm2d(channels, affine=False)
        self.body = nn.Sequential(*_layer(channels, 30, 2), *_layer(30, 60, 1), *_layer(60, 60, 2), nn.Flatten())
        flat = 60 * -(-height // 4) * -(-width // 4)  # rounded up
        # Normalized, so that a distance of 1 means one standard deviation of a feature for every network.
        self.features = nn.Sequential(nn.Linear(flat, FEATURES, bias=False), nn.BatchNorm1d(FEATURES, affine=False))

    def standardize(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) in 0..255 with mean 0 and variance 1 in each channel."""
        standardized: Tensor = self.standardized(images.float().div(255))
        return standardized

    def encode(self, images: Tensor) -> Tensor:
        """Return the features (N, 64) of standardized images (N, C, H, W)."""
        features: Tensor = self.features(self.body(images))
        return features


def _layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Return a convolution 3x3 with batch normalization and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
