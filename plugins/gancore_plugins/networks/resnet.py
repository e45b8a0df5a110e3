"""Residual networks with spectral normalization, SNGAN: Miyato et al. 2018, appendix B.4 (arXiv:1802.05957)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gancore.contracts import Condition, Discriminator, Generator, Spec
from gancore_plugins.networks.attention import SelfAttention
from gancore_plugins.networks.condition import condition_embedding, flat_condition
from gancore_plugins.networks.head import CLASSIFIER, MINIBATCH_STDDEV, DiscriminatorHead, MinibatchStddev, WithHead
from gancore_plugins.networks.spectral import apply_spectral_norm
from gancore_plugins.networks.upsampling import UpsamplingPlan
from gancore_plugins.networks.widths import BOUNDED, bounded, scaled

_ATTENTION = "self-attention at half the image size, Zhang et al. 2019 (arXiv:1805.08318)"
_LAST_SIDE = 8
"""The discriminator stops halving once the shorter side is at most this."""


class ResNetGenerator(Generator):
    """Residual blocks, each doubles the size, Miyato et al. 2018 (arXiv:1802.05957); tanh at the end.

    Labels choose the gains and biases of batch normalization, de Vries et al. 2017 (arXiv:1707.00683); vectors of a
    condition are mapped to them linearly.
    """

    name = "resnet"
    width: int = Field(default=256, ge=1, le=4096, description=f"channels of every hidden layer {BOUNDED}")
    attention: bool = Field(default=False, description=_ATTENTION)

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        return _ResNetGenerator(self, plan, spec)


class ResNetDiscriminator(Discriminator):
    """Residual blocks with spectral normalization, Miyato et al. 2018 (arXiv:1802.05957); one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "resnet"
    width: int = Field(default=128, ge=1, le=4096, description=f"channels of every hidden layer {BOUNDED}")
    spectral: bool = Field(default=True, description="divide every weight by its largest singular value")
    attention: bool = Field(default=False, description=_ATTENTION)
    minibatch_stddev: int | None = Field(default=None, ge=2, description=f"{MINIBATCH_STDDEV}; absent: off")
    classifier: bool = Field(default=False, description=CLASSIFIER)

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        sizes = plan.sizes[::-1]
        halvings = max(1, sum(min(size) > _LAST_SIDE for size in sizes[:-1]))
        widths = [bounded(scaled(self.width, spec), size) for size in sizes[: halvings + 1]]
        body = nn.Sequential(*plan.padding(), *self._body(plan.channels, widths))
        features = widths[-1] + bool(self.minibatch_stddev)
        head = DiscriminatorHead(features, flat_condition(spec, self), classifier=self.classifier)
        network = WithHead(body, head).apply(_init_glorot)
        return apply_spectral_norm(network) if self.spectral else network

    def _body(self, channels: int, widths: list[int]) -> Iterator[nn.Module]:
        """Yield the blocks that halve images, (N, C, H, W) to (N, C', H', W'), two more, and the sum over pixels."""
        yield _DownBlock(channels, widths[0], halves=True, first=True)
        if self.attention:
            yield SelfAttention(widths[0])
        for inputs, outputs in pairwise(widths[:-1]):
            yield _DownBlock(inputs, outputs, halves=True)
        yield _DownBlock(widths[-2], widths[-1], halves=False)
        yield _DownBlock(widths[-1], widths[-1], halves=False)
        yield nn.ReLU()
        if self.minibatch_stddev:
            yield MinibatchStddev(self.minibatch_stddev)
        yield _SumOverPixels()


class _ResNetGenerator(nn.Module):
    def __init__(self, settings: ResNetGenerator, plan: UpsamplingPlan, spec: Spec) -> None:
        super().__init__()
        condition = flat_condition(spec, settings)
        widths = [bounded(scaled(settings.width, spec), size) for size in plan.sizes]
        self.start = nn.Sequential(
            nn.Linear(spec.latent_dim, widths[0] * math.prod(plan.base)), nn.Unflatten(1, (widths[0], *plan.base))
        )
        self.blocks = nn.ModuleList(_UpBlock(*pair, condition) for pair in pairwise(widths))
        self.attention = SelfAttention(widths[-2]) if settings.attention else None  # before the last block
        to_image = nn.Conv2d(widths[-1], plan.channels, 3, padding=1)
        self.end = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.ReLU(), to_image, *([nn.Tanh()] if spec.bounded else []), *plan.cropping()
        )
        self.apply(_init_glorot)

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        features: Tensor = self.start(latent)  # (N, C', h, w)
        for index, block in enumerate(self.blocks):
            if self.attention is not None and index == len(self.blocks) - 1:
                features = self.attention(features)  # (N, C', H / 2, W / 2)
            features = block(features, condition)  # (N, C', 2^(index + 1) h, 2^(index + 1) w)
        images: Tensor = self.end(features)  # (N, C, H, W)
        return images


class _UpBlock(nn.Module):
    """A residual block of the generator, (N, C, H, W) to (N, C', 2 H, 2 W)."""

    def __init__(self, inputs: int, outputs: int, condition: Condition | None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_ConditionalBatchNorm(channels, condition) for channels in (inputs, outputs))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, outputs, 3, padding=1) for channels in (inputs, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        hidden = interpolate(self.norms[0](features, condition).relu(), scale_factor=2)  # (N, C, 2 H, 2 W)
        hidden = self.norms[1](self.convolutions[0](hidden), condition).relu()  # (N, C', 2 H, 2 W)
        hidden = self.convolutions[1](hidden)  # (N, C', 2 H, 2 W)
        output: Tensor = hidden + self.shortcut(interpolate(features, scale_factor=2))
        return output


class _ConditionalBatchNorm(nn.Module):
    """Batch normalization with gains and biases of each class, or linear in a vector; they start at 1 and 0."""

    def __init__(self, channels: int, condition: Condition | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not isinstance(condition, int))
        self.embedding = condition_embedding(condition, 2 * channels)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        normalized: Tensor = self.norm(features)  # (N, C, H, W)
        if self.embedding is None or condition is None:
            return normalized
        gain, bias = self.embedding(condition)[:, :, None, None].chunk(2, dim=1)  # (N, C, 1, 1) each
        output: Tensor = normalized * (1 + gain) + bias  # (N, C, H, W)
        return output


class _DownBlock(nn.Module):
    """A residual block of the discriminator, (N, C, H, W) to (N, C', H, W) or (N, C', H / 2, W / 2)."""

    def __init__(
        self,
        inputs: int,  # C
        outputs: int,  # C'
        *,
        halves: bool,  # average pooling at the end
        first: bool = False,  # input is an image: no activation first, and the shortcut pools before it convolves
    ) -> None:
        super().__init__()
        self.halves, self.first = halves, first
        self.convolutions = nn.ModuleList(
            (nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1))
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if halves or inputs != outputs else None

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.convolutions[0](features if self.first else features.relu())  # (N, C', H, W)
        hidden = self.convolutions[1](hidden.relu())  # (N, C', H, W)
        if self.shortcut is None:
            return features + hidden  # type: ignore[no-any-return]  # modules return Any
        if self.first:
            return avg_pool2d(hidden, 2) + self.shortcut(avg_pool2d(features, 2))  # type: ignore[no-any-return]  # same
        output: Tensor = hidden + self.shortcut(features)  # (N, C', H, W)
        return avg_pool2d(output, 2) if self.halves else output


class _SumOverPixels(nn.Module):
    """Features (N, C, H, W) to (N, C)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.sum(dim=(2, 3))


@torch.no_grad()
def _init_glorot(module: nn.Module) -> None:
    """Draw weights as Glorot and Bengio 2010 (uniform), times sqrt(2) in residual branches; biases are zero."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, _UpBlock | _DownBlock):  # `apply` visits it after its layers
        for layer in module.convolutions.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2))
    elif isinstance(module, _ConditionalBatchNorm) and module.embedding is not None:
        module.embedding.weight.zero_()
    elif isinstance(module, DiscriminatorHead) and module.embedding is not None:
        nn.init.xavier_uniform_(module.embedding.weight)
