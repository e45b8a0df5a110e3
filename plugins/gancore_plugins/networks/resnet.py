"""Residual networks with spectral normalization, SNGAN: Miyato et al. 2018, appendix B.4 (arXiv:1802.05957)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gancore.contracts import Discriminator, Generator, Shape
from gancore_plugins.networks.attention import SelfAttention
from gancore_plugins.networks.pyramid import UpsamplingPlan
from gancore_plugins.networks.spectral import spectrally_normalized
from gancore_plugins.networks.verdict import CLASSIFIER, MinibatchStddev, Verdict, WithHead

_SMALLEST = 8
"""The side at which D no longer halves its features."""


class ResNetGenerator(Generator):
    """Residual blocks, each twice as large, Miyato et al. 2018 (arXiv:1802.05957); tanh at the end.

    Labels choose the gains and offsets of batch normalization, de Vries et al. 2017 (arXiv:1707.00683).
    """

    name = "resnet"
    width: int = Field(default=256, ge=1, le=4096, description="channels of every hidden layer")
    attention: bool = Field(
        default=False, description="self-attention, Zhang et al. 2019 (arXiv:1805.08318), at half the images' size"
    )

    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        return _ResNetGenerator(self, UpsamplingPlan.of(shape, "generator resnet"), latent_dim, num_classes)


class ResNetDiscriminator(Discriminator):
    """Residual blocks with spectral normalization, Miyato et al. 2018 (arXiv:1802.05957); one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "resnet"
    width: int = Field(default=128, ge=1, le=4096, description="channels of every hidden layer")
    spectral: bool = Field(default=True, description="divide every weight by its largest singular value")
    attention: bool = Field(
        default=False, description="self-attention, Zhang et al. 2019 (arXiv:1805.08318), at half the images' size"
    )
    minibatch_stddev: int | None = Field(
        default=None, ge=2, description="images that are compared with each other in the last layer; absent: none"
    )
    classifier: bool = Field(default=False, description=CLASSIFIER)

    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        pyramid = UpsamplingPlan.of(shape, "discriminator resnet")
        network = WithHead(nn.Sequential(*self._body(pyramid)), self._verdict(num_classes)).apply(_initialize)
        return spectrally_normalized(network) if self.spectral else network

    def _body(self, pyramid: UpsamplingPlan) -> Iterator[nn.Module]:
        """Halved until small, then two blocks more; at least one halving, at most those that the sides allow."""
        side = min(pyramid.base) << pyramid.doublings
        halvings = max(1, sum(side >> place > _SMALLEST for place in range(pyramid.doublings)))
        yield _Block(pyramid.channels, self.width, halves=True, first=True)
        if self.attention:
            yield SelfAttention(self.width)
        for _ in range(halvings - 1):
            yield _Block(self.width, self.width, halves=True)
        for _ in range(2):
            yield _Block(self.width, self.width)
        yield nn.ReLU()
        if self.minibatch_stddev:
            yield MinibatchStddev(self.minibatch_stddev)
        yield _SumOverPixels()

    def _verdict(self, num_classes: int | None) -> Verdict:
        return Verdict(self.width + bool(self.minibatch_stddev), num_classes, classifier=self.classifier)


class _ResNetGenerator(nn.Module):
    def __init__(
        self, settings: ResNetGenerator, pyramid: UpsamplingPlan, latent_dim: int, num_classes: int | None
    ) -> None:
        super().__init__()
        channels, last = settings.width, pyramid.doublings - 1
        self.start = nn.Sequential(
            nn.Linear(latent_dim, channels * math.prod(pyramid.base)), nn.Unflatten(1, (channels, *pyramid.base))
        )
        self.blocks = nn.ModuleList(_UpBlock(channels, num_classes) for _ in range(pyramid.doublings))
        # At half the size: before the last block.
        self.attention, self.attended = (SelfAttention(channels) if settings.attention else None), last
        self.end = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, pyramid.channels, 3, padding=1), nn.Tanh()
        )
        self.apply(_initialize)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        features: Tensor = self.start(latent)
        for place, block in enumerate(self.blocks):
            if self.attention is not None and place == self.attended:
                features = self.attention(features)
            features = block(features, labels)
        images: Tensor = self.end(features)
        return images


class _UpBlock(nn.Module):
    """A residual block (N, C, H, W) to (N, C, 2 H, 2 W)."""

    def __init__(self, channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_Norm(channels, num_classes) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        inner = interpolate(self.norms[0](features, labels).relu(), scale_factor=2)
        inner = self.norms[1](self.convolutions[0](inner), labels).relu()
        outer: Tensor = self.convolutions[1](inner) + self.shortcut(interpolate(features, scale_factor=2))
        return outer


class _Norm(nn.Module):
    """Batch normalization, with gains and offsets of each class's own where there are classes."""

    def __init__(self, channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=num_classes is None)
        self.changes = None if num_classes is None else nn.Embedding(num_classes, 2 * channels)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        normed: Tensor = self.norm(features)
        if self.changes is None or labels is None:
            return normed
        gain, offset = self.changes(labels)[:, :, None, None].chunk(2, dim=1)
        changed: Tensor = normed * (1 + gain) + offset
        return changed


class _Block(nn.Module):
    """A residual block of D (N, C, H, W) to (N, C', H, W), or half as large.

    The first halves before its shortcut's convolution, and has no activation in front, since images come as they are.
    """

    def __init__(self, inputs: int, outputs: int, *, halves: bool = False, first: bool = False) -> None:
        super().__init__()
        self.halves, self.first = halves, first
        self.convolutions = nn.ModuleList(
            (nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1))
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if halves or inputs != outputs else None

    def forward(self, features: Tensor) -> Tensor:
        inner = self.convolutions[0](features if self.first else features.relu())
        inner = self.convolutions[1](inner.relu())
        if self.shortcut is None:
            return features + inner  # type: ignore[no-any-return]  # modules return Any
        if self.first:
            return avg_pool2d(inner, 2) + self.shortcut(avg_pool2d(features, 2))  # type: ignore[no-any-return]  # as above
        both: Tensor = inner + self.shortcut(features)
        return avg_pool2d(both, 2) if self.halves else both


class _SumOverPixels(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C)."""
        return features.sum(dim=(2, 3))


@torch.no_grad()
def _initialize(module: nn.Module) -> None:
    """Uniform after Glorot and Bengio 2010, larger in residual branches by the square root of two."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, _UpBlock | _Block):  # after the layers in it
        for layer in module.convolutions.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2))
    elif isinstance(module, _Norm) and module.changes is not None:
        module.changes.weight.zero_()
    elif isinstance(module, Verdict) and module.embedding is not None:
        nn.init.xavier_uniform_(module.embedding.weight)
