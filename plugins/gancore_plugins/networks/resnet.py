"""Residual networks with spectral normalization, SNGAN: Miyato et al. 2018, appendix B.4 (arXiv:1802.05957)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gancore.contracts import Discriminator, Generator, Spec
from gancore_plugins.networks.attention import SelfAttention
from gancore_plugins.networks.condition import flat_condition
from gancore_plugins.networks.head import CLASSIFIER, MINIBATCH_STDDEV, DiscriminatorHead, MinibatchStddev, WithHead
from gancore_plugins.networks.spectral import apply_spectral_norm
from gancore_plugins.networks.upsampling import UpsamplingPlan
from gancore_plugins.networks.widths import scaled

_ATTENTION = "self-attention at half the image size, Zhang et al. 2019 (arXiv:1805.08318)"
_LAST_SIDE = 8
"""The discriminator stops halving once the shorter side is at most this."""


class ResNetGenerator(Generator):
    """Residual blocks, each doubles the size, Miyato et al. 2018 (arXiv:1802.05957); tanh at the end.

    Labels choose the gains and biases of batch normalization, de Vries et al. 2017 (arXiv:1707.00683).
    """

    name = "resnet"
    width: int = Field(default=256, ge=1, le=4096, description="channels of every hidden layer")
    attention: bool = Field(default=False, description=_ATTENTION)

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, "generator resnet")
        return _ResNetGenerator(self, plan, spec)


class ResNetDiscriminator(Discriminator):
    """Residual blocks with spectral normalization, Miyato et al. 2018 (arXiv:1802.05957); one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "resnet"
    width: int = Field(default=128, ge=1, le=4096, description="channels of every hidden layer")
    spectral: bool = Field(default=True, description="divide every weight by its largest singular value")
    attention: bool = Field(default=False, description=_ATTENTION)
    minibatch_stddev: int | None = Field(default=None, ge=2, description=f"{MINIBATCH_STDDEV}; absent: off")
    classifier: bool = Field(default=False, description=CLASSIFIER)

    def build(self, spec: Spec) -> nn.Module:
        width = scaled(self.width, spec)
        body = nn.Sequential(*self._body(UpsamplingPlan.for_shape(spec.shape, "discriminator resnet"), width))
        features = width + bool(self.minibatch_stddev)
        head = DiscriminatorHead(features, flat_condition(spec, "discriminator resnet"), classifier=self.classifier)
        network = WithHead(body, head).apply(_init_weights)
        return apply_spectral_norm(network) if self.spectral else network

    def _body(self, plan: UpsamplingPlan, width: int) -> Iterator[nn.Module]:
        """Yield the blocks that halve images, (N, C, H, W) to (N, width, H', W'), two more, and the sum over pixels."""
        side = min(plan.base) * 2**plan.doublings
        halvings = max(1, sum(side // 2**done > _LAST_SIDE for done in range(plan.doublings)))
        yield _DownBlock(plan.channels, width, halves=True, first=True)
        if self.attention:
            yield SelfAttention(width)
        for _ in range(halvings - 1):
            yield _DownBlock(width, width, halves=True)
        for _ in range(2):
            yield _DownBlock(width, width, halves=False)
        yield nn.ReLU()
        if self.minibatch_stddev:
            yield MinibatchStddev(self.minibatch_stddev)
        yield _SumOverPixels()


class _ResNetGenerator(nn.Module):
    def __init__(self, settings: ResNetGenerator, plan: UpsamplingPlan, spec: Spec) -> None:
        super().__init__()
        channels = scaled(settings.width, spec)
        self.start = nn.Sequential(
            nn.Linear(spec.latent_dim, channels * math.prod(plan.base)), nn.Unflatten(1, (channels, *plan.base))
        )
        self.blocks = nn.ModuleList(_UpBlock(channels, spec.classes()) for _ in range(plan.doublings))
        self.attention = SelfAttention(channels) if settings.attention else None  # before the last block
        to_image = nn.Conv2d(channels, plan.channels, 3, padding=1)
        self.end = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), to_image, *([nn.Tanh()] if spec.bounded else []))
        self.apply(_init_weights)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        features: Tensor = self.start(latent)  # (N, width, h, w)
        for index, block in enumerate(self.blocks):
            if self.attention is not None and index == len(self.blocks) - 1:
                features = self.attention(features)  # (N, width, H / 2, W / 2)
            features = block(features, labels)  # (N, width, 2^(index + 1) h, 2^(index + 1) w)
        images: Tensor = self.end(features)  # (N, C, H, W)
        return images


class _UpBlock(nn.Module):
    """A residual block of the generator, (N, C, H, W) to (N, C, 2 H, 2 W)."""

    def __init__(self, channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_ConditionalBatchNorm(channels, num_classes) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        hidden = interpolate(self.norms[0](features, labels).relu(), scale_factor=2)  # (N, C, 2 H, 2 W)
        hidden = self.norms[1](self.convolutions[0](hidden), labels).relu()
        output: Tensor = self.convolutions[1](hidden) + self.shortcut(interpolate(features, scale_factor=2))
        return output


class _ConditionalBatchNorm(nn.Module):
    """Batch normalization; with classes, each class has its own gains and biases, which start at 1 and 0."""

    def __init__(self, channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=num_classes is None)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, 2 * channels)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        normalized: Tensor = self.norm(features)  # (N, C, H, W)
        if self.embedding is None or labels is None:
            return normalized
        gain, bias = self.embedding(labels)[:, :, None, None].chunk(2, dim=1)  # (N, C, 1, 1) each
        output: Tensor = normalized * (1 + gain) + bias
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
        hidden = self.convolutions[0](features if self.first else features.relu())
        hidden = self.convolutions[1](hidden.relu())  # (N, C', H, W)
        if self.shortcut is None:
            return features + hidden  # type: ignore[no-any-return]  # modules return Any
        if self.first:
            return avg_pool2d(hidden, 2) + self.shortcut(avg_pool2d(features, 2))  # type: ignore[no-any-return]  # same
        output: Tensor = hidden + self.shortcut(features)
        return avg_pool2d(output, 2) if self.halves else output


class _SumOverPixels(nn.Module):
    """Features (N, C, H, W) to (N, C)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.sum(dim=(2, 3))


@torch.no_grad()
def _init_weights(module: nn.Module) -> None:
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
