"""DCGAN, Radford et al. 2016 (arXiv:1511.06434): strided convolutions instead of pooling, and hardly anything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gancore.contracts import Discriminator, Generator, Shape
from gancore_plugins.networks.pyramid import UpsamplingPlan
from gancore_plugins.networks.spectral import spectrally_normalized
from gancore_plugins.networks.verdict import CLASSIFIER, MinibatchStddev, Verdict, WithHead


class DCGANGenerator(Generator):
    """Transposed convolutions, each twice as large, Radford et al. 2016 (arXiv:1511.06434); tanh at the end.

    Labels are appended to the latent as one-hot vectors.
    """

    name = "dcgan"
    width: int = Field(default=64, ge=1, le=4096, description="channels of the last hidden layer; each before: double")
    normalization: Literal["batch", "off"] = Field(default="batch", description="of each hidden layer")

    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        pyramid = UpsamplingPlan.of(shape, "generator dcgan")
        height, width = pyramid.base
        channels = self.width << (pyramid.doublings - 1)
        layers: list[nn.Module] = [
            nn.Linear(latent_dim + (num_classes or 0), channels * height * width),
            nn.Unflatten(1, (channels, height, width)),
            *self._between(channels),
        ]
        for _ in range(pyramid.doublings - 1):
            layers += [nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1), *self._between(channels // 2)]
            channels //= 2
        layers += [nn.ConvTranspose2d(channels, pyramid.channels, 4, 2, 1), nn.Tanh()]
        return OneHotConcat(layers, num_classes).apply(initialize)

    def _between(self, channels: int) -> Iterator[nn.Module]:
        if self.normalization == "batch":
            yield nn.BatchNorm2d(channels)
        yield nn.ReLU()


class DCGANDiscriminator(Discriminator):
    """Strided convolutions, each half as large, Radford et al. 2016 (arXiv:1511.06434), with LeakyReLU; one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "dcgan"
    width: int = Field(default=64, ge=1, le=4096, description="channels of the first hidden layer; each after: double")
    normalization: Literal["batch", "spectral", "off"] = Field(
        default="batch", description="of each hidden layer but the first, or of every weight"
    )
    minibatch_stddev: int | None = Field(
        default=None, ge=2, description="images that are compared with each other in the last layer; absent: none"
    )
    classifier: bool = Field(default=False, description=CLASSIFIER)

    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        pyramid = UpsamplingPlan.of(shape, "discriminator dcgan")
        inputs, channels = pyramid.channels, self.width
        layers: list[nn.Module] = []
        for place in range(pyramid.doublings):
            layers.append(nn.Conv2d(inputs, channels, 4, 2, 1))
            if self.normalization == "batch" and place > 0:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.LeakyReLU(0.2))
            inputs, channels = channels, 2 * channels
        if self.minibatch_stddev:
            layers.append(MinibatchStddev(self.minibatch_stddev))
            inputs += 1
        height, width = pyramid.base
        body = nn.Sequential(*layers, nn.Flatten())
        verdict = Verdict(inputs * height * width, num_classes, classifier=self.classifier)
        network = WithHead(body, verdict).apply(initialize)
        return spectrally_normalized(network) if self.normalization == "spectral" else network


class OneHotConcat(nn.Sequential):
    """Layers that begin with a latent (N, Z), to which labels (N,) are appended as one-hot vectors (N, K)."""

    def __init__(self, layers: list[nn.Module], num_classes: int | None) -> None:
        super().__init__(*layers)
        self._num_classes = num_classes

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None and self._num_classes is not None:
            latent = torch.cat([latent, one_hot(labels, self._num_classes).to(latent.dtype)], dim=1)
        for layer in self:
            latent = layer(latent)
        return latent


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """Section 4: normal with a standard deviation of 0.02, around 1 for the gains of batch normalization."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        module.weight.normal_(0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        module.weight.normal_(1.0, 0.02)
    bias = getattr(module, "bias", None)
    if isinstance(bias, nn.Parameter):
        bias.zero_()
