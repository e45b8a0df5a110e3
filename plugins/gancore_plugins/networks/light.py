"""The light networks of Liu et al. 2021 (arXiv:2101.04775), for few images and little compute.

In the generator, features of low resolution gate the channels of a much higher one (skip-layer excitation). The
discriminator may learn to reconstruct real images from its features, so that these describe the images (self-supervised
discriminator). Channels double with each halving of the image, up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from gancore.contracts import Discriminator, Generator, Output, Spec
from gancore_plugins.networks.condition import ConditionConcat, condition_width, flat_condition
from gancore_plugins.networks.dcgan import init_dcgan
from gancore_plugins.networks.decoders import Decoders
from gancore_plugins.networks.head import CLASSIFIER, DiscriminatorHead
from gancore_plugins.networks.spectral import apply_spectral_norm
from gancore_plugins.networks.up_convolution import UpConvolution
from gancore_plugins.networks.upsampling import UpsamplingPlan
from gancore_plugins.networks.widths import DOUBLED, DoubledWidths

_SKIP_DOUBLINGS = (2, 4)
"""The least and the most doublings between both ends of an excitation; 4 in the paper, as from 8 to 128 pixels."""
_MAX_CELLS = 7
"""An excitation sees at most as many cells on each side; 4 in the paper, where every base has 4x4 pixels."""


class _LightWidths(DoubledWidths):
    width: int = Field(default=16, ge=1, le=4096, description=DOUBLED)


class LightGenerator(_LightWidths, Generator):
    """One convolution per size, and skip-layer excitation, Liu et al. 2021 (arXiv:2101.04775); tanh at the end.

    The noise of the paper is left out, so the latent determines the image. Labels are appended to the latent as one-hot
    vectors, vectors of a condition as they are.
    """

    name = "light"

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        condition = flat_condition(spec, self)
        widths = self.widths(spec, plan.doublings + 1)[::-1]
        body = _Upsampling(spec.latent_dim + condition_width(condition), widths, plan)
        to_image = [nn.Conv2d(widths[-1], plan.channels, 3, padding=1), *([nn.Tanh()] if spec.bounded else [])]
        return ConditionConcat([body, *to_image, *plan.cropping()], condition).apply(init_dcgan)


class LightDiscriminator(_LightWidths, Discriminator):
    """Residual blocks that halve the image, Liu et al. 2021 (arXiv:2101.04775); one logit.

    Each block is the mean of a path of convolutions and a pooled one. With `reconstructs`, small decoders make an
    `Output` with heads `reconstruction` and `target`, for the regularizer `reconstruction`; only in D's own update.
    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "light"
    normalization: Literal["batch", "spectral", "off"] = Field(
        default="off", description="batch: in each block, as in the paper; spectral: every weight but the decoders'"
    )
    reconstructs: bool = Field(
        default=False, description="add decoders and their heads, which the regularizer `reconstruction` trains"
    )
    classifier: bool = Field(default=False, description=CLASSIFIER)

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        widths = self.widths(spec, plan.doublings + 1)
        height, width = plan.base
        head = DiscriminatorHead(widths[-1] * height * width, flat_condition(spec, self), classifier=self.classifier)
        network = _LightDiscriminator(list(self._body(plan.channels, widths)), head, plan).apply(_init_he)
        if self.normalization == "spectral":
            apply_spectral_norm(network)
        if self.reconstructs:
            network.reconstruct = Decoders(plan, widths, bounded=spec.bounded).apply(_init_he)
        return network

    def _body(self, channels: int, widths: list[int]) -> Iterator[nn.Module]:
        """Yield a convolution at the size of the image, and blocks that halve it."""
        yield nn.Sequential(nn.Conv2d(channels, widths[0], 3, padding=1), nn.LeakyReLU(0.2))
        for inputs, outputs in pairwise(widths):
            yield _DownBlock(inputs, outputs, normalize=self.normalization == "batch")


class _Upsampling(nn.Module):
    """Flat latents (N, Z) to features (N, C, H, W) at the size of the image."""

    def __init__(self, inputs: int, widths: list[int], plan: UpsamplingPlan) -> None:
        super().__init__()
        height, width = plan.base
        self.start = nn.Sequential(
            nn.Linear(inputs, 2 * widths[0] * height * width),
            nn.Unflatten(1, (2 * widths[0], height, width)),
            nn.BatchNorm2d(2 * widths[0]),
            nn.GLU(dim=1),
        )
        self.blocks = nn.ModuleList(_UpBlock(*pair) for pair in pairwise(widths))
        self.skip = min(max(plan.doublings - 1, _SKIP_DOUBLINGS[0]), _SKIP_DOUBLINGS[1])
        self.excitations = nn.ModuleList(
            SkipLayerExcitation(low, high, plan.base) for low, high in zip(widths, widths[self.skip :], strict=False)
        )

    def forward(self, latent: Tensor) -> Tensor:
        maps: list[Tensor] = [self.start(latent)]  # (N, C, h, w)
        for doublings, block in enumerate(self.blocks, start=1):
            features = block(maps[-1])  # (N, C', 2^doublings h, 2^doublings w)
            if doublings >= self.skip:
                low = doublings - self.skip
                features = self.excitations[low](maps[low], features)
            maps.append(features)
        return maps[-1]


class _UpBlock(nn.Sequential):
    """Features (N, C, H, W) to (N, C', 2 H, 2 W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(UpConvolution(inputs, 2 * outputs), nn.BatchNorm2d(2 * outputs), nn.GLU(dim=1))


class SkipLayerExcitation(nn.Module):
    """Channels of high resolution times a gate in 0..1 from features of low resolution, section 3.1 of the paper.

    The gate is sigmoid(conv(LeakyReLU(conv(pooled)))): features (N, L, H, W) are pooled to cells, on which the first
    convolution leaves one pixel.
    """

    def __init__(
        self,
        low: int,  # L
        high: int,  # channels that are gated
        base: tuple[int, int],  # divides the size of the features of low resolution
    ) -> None:
        super().__init__()
        self.cells = _cells(base[0]), _cells(base[1])
        self.gate = nn.Sequential(
            nn.Conv2d(low, high, self.cells), nn.LeakyReLU(0.2), nn.Conv2d(high, high, 1), nn.Sigmoid()
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        cell = [side // count for side, count in zip(low.shape[2:], self.cells, strict=True)]  # in pixels
        gated: Tensor = high * self.gate(avg_pool2d(low, cell))  # (N, C, H', W') * (N, C, 1, 1)
        return gated


def _cells(side: int) -> int:
    """Return the most cells that divide the side of a base."""
    return max(count for count in range(1, _MAX_CELLS + 1) if side % count == 0)


class _LightDiscriminator(nn.Module):
    """Images (N, C, H, W) to logits (N, 1), or to an `Output` with heads."""

    def __init__(self, body: list[nn.Module], head: DiscriminatorHead, plan: UpsamplingPlan) -> None:
        super().__init__()
        self.padded = nn.Sequential(*plan.padding())
        self.body, self.head = nn.ModuleList(body), head
        self.reconstruct: Decoders | None = None

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor | Output:
        maps: list[Tensor] = [self.padded(images)]
        for block in self.body:
            maps.append(block(maps[-1]))  # (N, C', H / 2^index, W / 2^index)
        output: Tensor | Output = self.head(maps[-1].flatten(1), condition)
        if self.reconstruct is None or not self.reconstruct.trains:
            return output
        output = output if isinstance(output, Output) else Output(output)
        return replace(output, heads={**output.heads, **self.reconstruct(maps[0], maps)})


class _DownBlock(nn.Module):
    """Features (N, C, H, W) to (N, C', H / 2, W / 2): the mean of two convolutions and of a pooled path."""

    def __init__(self, inputs: int, outputs: int, *, normalize: bool) -> None:
        super().__init__()

        def convolution(channels: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
            layer = nn.Conv2d(channels, outputs, kernel, stride, padding, bias=not normalize)
            return [layer, *([nn.BatchNorm2d(outputs)] if normalize else []), nn.LeakyReLU(0.2)]

        self.convolutions = nn.Sequential(*convolution(inputs, 4, 2, 1), *convolution(outputs, 3, 1, 1))
        self.pooled = nn.Sequential(nn.AvgPool2d(2), *convolution(inputs, 1, 1, 0))

    def forward(self, features: Tensor) -> Tensor:
        halved: Tensor = (self.convolutions(features) + self.pooled(features)) / 2  # (N, C', H / 2, W / 2)
        return halved


@torch.no_grad()
def _init_he(module: nn.Module) -> None:
    """Draw weights that keep the variance through LeakyReLU, He et al. 2015 (arXiv:1502.01852); biases are zero.

    Those that embed a condition are from N(0, 1 / F) for F features, so that at the start a projection on features is
    no larger than the logit that it is added to.
    """
    if isinstance(module, DiscriminatorHead) and module.embedding is not None:  # after its layers, see nn.Module.apply
        module.embedding.weight.normal_(0.0, module.linear.in_features**-0.5)
    elif isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=0.2)
        if module.bias is not None:
            module.bias.zero_()
