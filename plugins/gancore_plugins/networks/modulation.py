"""Convolutions whose weights are scaled by a style, Karras et al. 2020, section 2.2 (arXiv:1912.04958)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from gancore_plugins.networks.equalized import GAIN, SLOPE, Blur, EqualizedLinear

_EPSILON = 1e-8


class ModulatedConv2d(nn.Module):
    """Features (N, C, H, W) and styles (N, S) to (N, D, H, W), or to (N, D, 2 H, 2 W) if it `doubles`.

    A linear map of the style gives a scale s_i for each input channel, at first near 1. The weights of a sample are
    w'_jik = s_i w_jik, divided by their norm over i and k if it `demodulates` (eq. 1 and 3). Scaling the input and the
    output channels instead of the weights is the same, and one convolution serves the whole batch.
    """

    def __init__(
        self,
        inputs: int,  # C
        outputs: int,  # D
        side: int,  # of the kernel, odd
        style: int,  # S
        *,
        doubles: bool = False,  # a transposed convolution of stride 2 and a blur
        demodulates: bool = True,
        gain: float = 1.0,  # multiplies the outputs
    ) -> None:
        super().__init__()
        self.affine = EqualizedLinear(style, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.scale, self.gain = 1 / math.sqrt(inputs * side**2), gain
        self.padding, self.demodulates = side // 2, demodulates
        # Zeros between pixels leave a quarter of the sum, so the blur has a gain of 4.
        self.blur = Blur(gain=4.0, padding=1) if doubles else None

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        scales = self.affine(style)  # (N, C)
        weight = self.weight * (self.scale if self.demodulates else self.scale * self.gain)  # (D, C, k, k)
        features = features * scales[:, :, None, None]  # (N, C, H, W)
        if self.blur is None:
            outputs = conv2d(features, weight, padding=self.padding)  # (N, D, H, W)
        else:
            outputs = self.blur(conv_transpose2d(features, weight.transpose(0, 1), stride=2))  # (N, D, 2 H, 2 W)
        if not self.demodulates:
            return outputs
        norms = scales.square() @ weight.square().sum(dim=(2, 3)).T  # (N, D)
        return outputs * (self.gain * torch.rsqrt(norms + _EPSILON))[:, :, None, None]


class StyledLayer(nn.Module):
    """A modulated 3x3 convolution, noise, bias and LeakyReLU with gain sqrt(2).

    Features (N, C, H, W) and styles (N, S) to (N, D, H, W), or to twice that size if it `doubles`. Each pixel of an
    image gets a normal random number, the same for all channels, times a trained strength that starts at 0. It is drawn
    in training mode; in evaluation mode it is the one in the buffer `noise`, of the shape (H, W) of the output.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        style: int,
        shape: tuple[int, int],  # (H, W) of the output
        *,
        doubles: bool = False,
    ) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 3, style, doubles=doubles, gain=GAIN)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.register_buffer("noise", torch.randn(shape))
        self.noise: Tensor

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        outputs = self.convolution(features, style)  # (N, D, H, W)
        noise = torch.randn_like(outputs[:, :1]) if self.training else self.noise
        return leaky_relu(outputs + noise * (self.noise_strength * GAIN) + self.bias * GAIN, SLOPE)
