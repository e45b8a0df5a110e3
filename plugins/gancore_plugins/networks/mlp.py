"""Multilayer perceptrons for both players: the networks of the classic script, with the choices it leaves open."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Discriminator, Generator, Shape

Widths = tuple[Annotated[int, Field(ge=1, le=65536)], ...]


class MLPGenerator(Generator):
    """Multilayer perceptron, Goodfellow et al. 2014 (arXiv:1406.2661), with LeakyReLU; tanh for images."""

    name = "mlp"
    widths: Widths = Field(default=(256, 512), description="units of each hidden layer")
    slope: float = Field(default=0.2, ge=0, le=1, description="slope of LeakyReLU below zero")
    normalization: Literal["batch"] | None = Field(default=None, description="after each hidden layer; absent: none")

    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        layers = [
            *_hidden((latent_dim + (num_classes or 0), *self.widths), self.slope, normalization=self.normalization),
            nn.Linear(self.widths[-1] if self.widths else latent_dim + (num_classes or 0), math.prod(shape)),
            *([nn.Tanh()] if len(shape) == 3 else []),
            nn.Unflatten(1, shape),
        ]
        return _Perceptron(layers, num_classes)


class MLPDiscriminator(Discriminator):
    """Multilayer perceptron, Goodfellow et al. 2014 (arXiv:1406.2661), with LeakyReLU; one logit."""

    name = "mlp"
    widths: Widths = Field(default=(512, 256), description="units of each hidden layer")
    slope: float = Field(default=0.2, ge=0, le=1, description="slope of LeakyReLU below zero")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of hidden units dropped in training")

    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        inputs = math.prod(shape) + (num_classes or 0)
        layers = [
            *_hidden((inputs, *self.widths), self.slope, dropout=self.dropout),
            nn.Linear(self.widths[-1] if self.widths else inputs, 1),
        ]
        return _Perceptron(layers, num_classes)


def _hidden(
    widths: tuple[int, ...], slope: float, *, normalization: str | None = None, dropout: float = 0.0
) -> Iterator[nn.Module]:
    for inputs, units in pairwise(widths):
        yield nn.Linear(inputs, units)
        if normalization == "batch":
            yield nn.BatchNorm1d(units)
        yield nn.LeakyReLU(slope)
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
