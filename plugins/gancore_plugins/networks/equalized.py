"""Layers with an equalized learning rate, Karras et al. 2018, section 4.1 (arXiv:1710.10196), and the blur filter.

Weights are stored with unit variance and divided by sqrt(fan_in) when they are used, so that one learning rate of
Adam suits all layers. LeakyReLU has slope 0.2 and gain sqrt(2), which keeps the variance. Both factors scale weights
and biases, not features, since LeakyReLU(a x) = a LeakyReLU(x) for a > 0: that costs nothing per pixel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear

SLOPE = 0.2
"""Slope of LeakyReLU."""
GAIN = math.sqrt(2)
"""Factor of activations."""


class EqualizedLinear(nn.Module):
    """Features (N, F) to (N, G), with LeakyReLU if `activates`.

    `lr_factor` multiplies the learning rate of weights and biases, for the mapping network; outputs do not depend on
    it.
    """

    def __init__(
        self, inputs: int, outputs: int, *, activates: bool = False, bias: float = 0.0, lr_factor: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_factor)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_factor))
        self.activates = activates
        gain = GAIN if activates else 1.0
        self.weight_scale, self.bias_scale = gain * lr_factor / math.sqrt(inputs), gain * lr_factor

    def forward(self, features: Tensor) -> Tensor:
        outputs = linear(features, self.weight * self.weight_scale, self.bias * self.bias_scale)  # (N, G)
        return leaky_relu(outputs, SLOPE) if self.activates else outputs


class EqualizedConv2d(nn.Module):
    """Features (N, C, H, W) to (N, D, H, W) by a convolution of odd side, with LeakyReLU if `activates`.

    `gain` multiplies the outputs. Only layers with an activation have a bias.
    """

    def __init__(self, inputs: int, outputs: int, side: int, *, activates: bool = True, gain: float = GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activates else None
        self.weight_scale, self.bias_scale = gain / math.sqrt(inputs * side**2), gain
        self.padding = side // 2

    def forward(self, features: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias * self.bias_scale
        outputs = conv2d(features, self.weight * self.weight_scale, bias, padding=self.padding)  # (N, D, H, W)
        return outputs if self.bias is None else leaky_relu(outputs, SLOPE)


class Blur(nn.Module):
    """The filter [1, 3, 3, 1] in both directions, times `gain`, of every channel alone.

    Features (N, C, H, W) to (N, C, H + 2 p - 3, W + 2 p - 3) for `padding` p, then every `stride`-th pixel.
    """

    def __init__(self, gain: float = 1.0, padding: int = 0, stride: int = 1) -> None:
        super().__init__()
        self.padding, self.stride = padding, stride
        sides = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer(
            "kernel", gain * torch.outer(sides, sides)[None, None] / sides.sum() ** 2, persistent=False
        )
        self.kernel: Tensor

    def forward(self, features: Tensor) -> Tensor:
        channels = features.shape[1]
        kernel = self.kernel.to(features.dtype).expand(channels, 1, 4, 4)
        return conv2d(features, kernel, padding=self.padding, stride=self.stride, groups=channels)


def upsampled(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) as (N, C, 2 H, 2 W): zeros between pixels, then the filter [1, 3, 3, 1].

    Each pixel is 3/4 of the nearest one and 1/4 of the next, in both directions. At the border the pixel is repeated.
    """
    return nn.functional.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
