"""Decoders of a discriminator's features, which make it learn what images look like, not only what gives fakes away.

Liu et al. 2021, section 3.2 (arXiv:2101.04775).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from gancore_plugins.networks.up_convolution import UpConvolution
from gancore_plugins.networks.upsampling import UpsamplingPlan

_DOUBLINGS = 4
"""The most doublings from the features to a reconstruction; 4 in the paper, from 8 to 128 pixels."""
_MIN_WIDTH = 8
"""The least channels of a decoder."""


class Decoders(nn.Module):
    """Two decoders: of the last features to the whole image, of the ones before to a random quarter of it, in detail.

    Without two feature maps, where D halves the image once, there is only the whole image.
    """

    def __init__(
        self,
        plan: UpsamplingPlan,
        widths: list[int],  # channels of the feature maps, from the largest one, at the size of the image
        *,
        bounded: bool,  # images are in [-1, 1]
    ) -> None:
        super().__init__()
        doublings = min(plan.doublings - 1, _DOUBLINGS)
        self.base, self.pooling = plan.base, 2 ** (plan.doublings - doublings)
        inner = [max(_MIN_WIDTH, widths[0])] * (doublings + 1)
        inputs = widths[-1:] if plan.doublings == 1 else widths[:-3:-1]
        self.parts = nn.ModuleList(_decoder([each, *inner], plan.channels, bounded=bounded) for each in inputs)

    @property
    def trains(self) -> bool:
        """Whether this pass can train the decoders: not in G's update, nor without gradients."""
        return self.training and torch.is_grad_enabled() and next(self.parameters()).requires_grad

    def forward(self, images: Tensor, maps: list[Tensor]) -> Mapping[str, Tensor]:
        """Return `reconstruction` and `target` (N, P, C, h, w) of images (N, C, H, W), whole and quarter: P = 2 or 1.

        `maps` are the feature maps, the last one at the base of the plan. Targets are the images, pooled to the size of
        their reconstructions; they have no gradient.
        """
        images = images.detach()
        features, targets = [maps[-1]], [avg_pool2d(images, self.pooling)]
        if len(self.parts) > 1:
            # On the device of the images: a number would have to wait for it.
            row, column = (torch.randint(side + 1, (), device=images.device) for side in self.base)
            features.append(self.quarter(maps[-2], row, column))
            targets.append(avg_pool2d(self.quarter(images, row, column), self.pooling // 2))
        made = [decode(each) for decode, each in zip(self.parts, features, strict=True)]  # (N, C, h, w) each
        return {"reconstruction": torch.stack(made, dim=1), "target": torch.stack(targets, dim=1)}

    def quarter(self, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Return a part (N, C, H / 2, W / 2) of images or features (N, C, H, W).

        `row` and `column` () say where it begins, in pixels of a map twice as large as the base: 0 to the base's sides.
        """
        for dim, (start, side) in enumerate(zip((row, column), self.base, strict=True), start=2):
            half = images.shape[dim] // 2
            images = images.index_select(dim, start * (half // side) + torch.arange(half, device=images.device))
        return images


def _decoder(widths: list[int], channels: int, *, bounded: bool) -> nn.Sequential:
    """Return layers from features (N, widths[0], h, w) to images, doubled len(widths) - 2 times."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        convolution = UpConvolution(inputs, 2 * outputs) if index else nn.Conv2d(inputs, 2 * outputs, 3, padding=1)
        layers += [convolution, nn.GLU(dim=1)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, padding=1), *([nn.Tanh()] if bounded else []))
