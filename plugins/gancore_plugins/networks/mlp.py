"""Multilayer perceptrons for both players, with layers, activation and normalization to choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from gancore.contracts import Discriminator, Generator, Spec
from gancore.errors import ConfigError
from gancore_plugins.networks.condition import ConditionConcat, condition_width
from gancore_plugins.networks.spectral import apply_spectral_norm
from gancore_plugins.networks.widths import scaled

Widths = tuple[Annotated[int, Field(ge=1, le=65536)], ...]
Activation = Literal["leaky-relu", "relu", "elu", "silu", "tanh"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class MLPGenerator(Generator):
    """Multilayer perceptron, Goodfellow et al. 2014 (arXiv:1406.2661); tanh at the end for data in [-1, 1].

    Labels are appended to the latent as one-hot vectors, tensor conditions flattened.
    """

    name = "mlp"
    widths: Widths = Field(default=(256, 512), description="units of each hidden layer")
    activation: Activation = Field(default="leaky-relu", description="activation of each hidden layer")
    slope: float = Field(default=0.2, ge=0, le=1, description="slope of leaky-relu below zero")
    normalization: Literal["batch", "layer"] | None = Field(
        default=None, description="normalization before each activation; absent: off"
    )

    def build(self, spec: Spec) -> nn.Module:
        widths = (spec.latent_dim + condition_width(spec.condition), *(scaled(width, spec) for width in self.widths))
        layers = [
            *_hidden_layers(widths, self),
            nn.Linear(widths[-1], math.prod(spec.shape)),
            *([nn.Tanh()] if spec.bounded else []),
            nn.Unflatten(1, spec.shape),
        ]
        return ConditionConcat(layers, spec.condition)


class MLPDiscriminator(Discriminator):
    """Multilayer perceptron, Goodfellow et al. 2014 (arXiv:1406.2661); one logit.

    Labels are appended to the flattened sample as one-hot vectors, tensor conditions flattened.
    """

    name = "mlp"
    widths: Widths = Field(default=(512, 256), description="units of each hidden layer")
    activation: Activation = Field(default="leaky-relu", description="activation of each hidden layer")
    slope: float = Field(default=0.2, ge=0, le=1, description="slope of leaky-relu below zero")
    normalization: Literal["batch", "layer", "spectral"] | None = Field(
        default=None, description="batch, layer: before each activation; spectral: every weight; absent: off"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of hidden units dropped in training")

    def build(self, spec: Spec) -> nn.Module:
        widths = (
            math.prod(spec.shape) + condition_width(spec.condition),
            *(scaled(width, spec) for width in self.widths),
        )
        layers = [*_hidden_layers(widths, self, dropout=self.dropout), nn.Linear(widths[-1], 1)]
        network = ConditionConcat(layers, spec.condition)
        return apply_spectral_norm(network) if self.normalization == "spectral" else network


def _hidden_layers(
    widths: tuple[int, ...], settings: MLPGenerator | MLPDiscriminator, *, dropout: float = 0.0
) -> Iterator[nn.Module]:
    """Yield the layers from (N, widths[0]) to (N, widths[-1])."""
    for inputs, units in pairwise(widths):
        yield nn.Linear(inputs, units)
        if settings.normalization == "batch":
            yield nn.BatchNorm1d(units)
        elif settings.normalization == "layer":
            if units == 1:
                raise ConfigError("layer normalization of 1 unit gives a constant", "use a width of at least 2")
            yield nn.LayerNorm(units)
        leaky = settings.activation == "leaky-relu"
        yield nn.LeakyReLU(settings.slope) if leaky else _ACTIVATIONS[settings.activation]()
        if dropout:
            yield nn.Dropout(dropout)
