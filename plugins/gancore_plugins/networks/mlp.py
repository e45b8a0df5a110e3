"""Multilayer perceptrons for both players: the networks of the classic script, with the choices it leaves open."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Discriminator, Generator, Shape
from gancore_plugins.networks.spectral import spectrally_normalized

Widths = tuple[Annotated[int, Field(ge=1, le=65536)], ...]
Activation = Literal["leaky-relu", "relu", "elu", "silu", "tanh"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class MLPGenerator(Generator):
    """Multilayer perceptron, Goodfellow et al. 2014 (arXiv:1406.2661); tanh at the end for images."""

    name = "mlp"
    widths: Widths = Field(default=(256, 512), description="units of each hidden layer")
    activation: Activation = Field(default="leaky-relu", description="of each hidden layer")
    slope: float = Field(default=0.2, ge=0, le=1, description="slope of leaky-relu below zero")
    normalization: Literal["batch", "layer"] | None = Field(
        default=None, description="before each activation; absent: none"
    )

    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        layers = [
            *_hidden((latent_dim + (num_classes or 0), *self.widths), self),
            nn.Linear(self.widths[-1] if self.widths else latent_dim + (num_classes or 0), math.prod(shape)),
            *([nn.Tanh()] if len(shape) == 3 else []),
            nn.Unflatten(1, shape),
        ]
        return _Perceptron(layers, num_classes)


class MLPDiscriminator(Discriminator):
    """Multilayer perceptron, Goodfellow et al. 2014 (arXiv:1406.2661); one logit."""

    name = "mlp"
    widths: Widths = Field(default=(512, 256), description="units of each hidden layer")
    activation: Activation = Field(default="leaky-relu", description="of each hidden layer")
    slope: float = Field(default=0.2, ge=0, le=1, description="slope of leaky-relu below zero")
    normalization: Literal["batch", "layer", "spectral"] | None = Field(
        default=None, description="before each activation, or of every weight matrix; absent: none"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of hidden units dropped in training")

    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        inputs = math.prod(shape) + (num_classes or 0)
        layers = [
            *_hidden((inputs, *self.widths), self, dropout=self.dropout),
            nn.Linear(self.widths[-1] if self.widths else inputs, 1),
        ]
        network = _Perceptron(layers, num_classes)
        return spectrally_normalized(network) if self.normalization == "spectral" else network


def _hidden(
    widths: tuple[int, ...], settings: MLPGenerator | MLPDiscriminator, *, dropout: float = 0.0
) -> Iterator[nn.Module]:
    for inputs, units in pairwise(widths):
        yield nn.Linear(inputs, units)
        if settings.normalization == "batch":
            yield nn.BatchNorm1d(units)
        elif settings.normalization == "layer":
            yield nn.LayerNorm(units)
        leaky = settings.activation == "leaky-relu"
        yield nn.LeakyReLU(settings.slope) if leaky else _ACTIVATIONS[settings.activation]()
        if dropout:
            yield nn.Dropout(dropout)


class _Perceptron(nn.Sequential):
    """Layers on flat input (N, F), to which labels (N,) are appended as one-hot vectors (N, K)."""

    def __init__(self, layers: list[nn.Module], num_classes: int | None) -> None:
        super().__init__(*layers)
        self._num_classes = num_classes

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Tensor:
        flat = batch.flatten(1)
        if labels is not None and self._num_classes is not None:
            codes = nn.functional.one_hot(labels, self._num_classes).to(flat.dtype)
            flat = torch.cat([flat, codes], dim=1)
        for layer in self:
            flat = layer(flat)
        return flat
