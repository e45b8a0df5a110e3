"""DCGAN, Radford et al. 2016 (arXiv:1511.06434): strided convolutions in place of pooling."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from gancore.contracts import Discriminator, Generator, Spec
from gancore_plugins.networks.condition import ConditionConcat, condition_width, flat_condition
from gancore_plugins.networks.head import CLASSIFIER, MINIBATCH_STDDEV, DiscriminatorHead, MinibatchStddev, WithHead
from gancore_plugins.networks.spectral import apply_spectral_norm
from gancore_plugins.networks.upsampling import UpsamplingPlan
from gancore_plugins.networks.widths import DoubledWidths


class DCGANGenerator(DoubledWidths, Generator):
    """Transposed convolutions, each doubles the size, Radford et al. 2016 (arXiv:1511.06434); tanh at the end.

    Labels are appended to the latent as one-hot vectors, vectors of a condition as they are.
    """

    name = "dcgan"
    normalization: Literal["batch", "off"] = Field(default="batch", description="normalization of each hidden layer")

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        condition = flat_condition(spec, self)
        height, width = plan.base
        widths = self.widths(spec, plan.doublings)[::-1]
        layers: list[nn.Module] = [
            nn.Linear(spec.latent_dim + condition_width(condition), widths[0] * height * width),
            nn.Unflatten(1, (widths[0], height, width)),
            *self._activation(widths[0]),
        ]
        for inputs, outputs in pairwise(widths):  # (N, C, H, W) to (N, C', 2 H, 2 W), C' = C / 2 or C
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), *self._activation(outputs)]
        layers += [nn.ConvTranspose2d(widths[-1], plan.channels, 4, 2, 1), *([nn.Tanh()] if spec.bounded else [])]
        layers += plan.cropping()
        return ConditionConcat(layers, condition).apply(init_dcgan)

    def _activation(self, channels: int) -> Iterator[nn.Module]:
        if self.normalization == "batch":
            yield nn.BatchNorm2d(channels)
        yield nn.ReLU()


class DCGANDiscriminator(DoubledWidths, Discriminator):
    """Strided convolutions, each halves the size, Radford et al. 2016 (arXiv:1511.06434), with LeakyReLU; one logit.

    Labels are projected on the last features, Miyato and Koyama 2018 (arXiv:1802.05637).
    """

    name = "dcgan"
    normalization: Literal["batch", "spectral", "off"] = Field(
        default="batch", description="batch: each hidden layer but the first; spectral: every weight"
    )
    minibatch_stddev: int | None = Field(default=None, ge=2, description=f"{MINIBATCH_STDDEV}; absent: off")
    classifier: bool = Field(default=False, description=CLASSIFIER)

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        inputs = plan.channels
        layers: list[nn.Module] = plan.padding()
        # (N, C, H, W) to (N, C', H / 2, W / 2), C' = 2 C or C
        for index, outputs in enumerate(self.widths(spec, plan.doublings)):
            layers.append(nn.Conv2d(inputs, outputs, 4, 2, 1))
            if self.normalization == "batch" and index > 0:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(0.2))
            inputs = outputs
        if self.minibatch_stddev:
            layers.append(MinibatchStddev(self.minibatch_stddev))
            inputs += 1
        height, width = plan.base
        body = nn.Sequential(*layers, nn.Flatten())
        head = DiscriminatorHead(inputs * height * width, flat_condition(spec, self), classifier=self.classifier)
        network = WithHead(body, head).apply(init_dcgan)
        return apply_spectral_norm(network) if self.normalization == "spectral" else network


@torch.no_grad()
def init_dcgan(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02^2) and gains of batch normalization from N(1, 0.02^2), as in section 4."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        module.weight.normal_(0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        module.weight.normal_(1.0, 0.02)
    bias = getattr(module, "bias", None)
    if isinstance(bias, nn.Parameter):
        bias.zero_()
