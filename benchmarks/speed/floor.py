"""The floor under a step of perceptrons: its matrix products alone, with nothing before, between or after them.

With shared fakes a step takes, for every layer: G forward; D forward with real and fake, the gradient of its weights,
and that of its inputs but for the first layer's; D forward with the fakes, and the gradient of all of its inputs; and
G's gradients, again but for its first inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from time import perf_counter

import torch
from torch import Tensor, nn

from benchmarks.speed.timing import RunConfig

Product = tuple[Tensor, Tensor, Tensor]
"""Two matrices, and where their product goes."""


def begun(generator: nn.Module, discriminator: nn.Module, batch: int, dtype: torch.dtype) -> RunConfig:
    """The products of a step of two perceptrons, over and over."""
    needed = products(generator, discriminator, batch, dtype)

    def run(steps: int) -> float:
        start = perf_counter()
        for _ in range(steps):
            for left, right, out in needed:
                torch.mm(left, right, out=out)
        return perf_counter() - start

    return run


def products(generator: nn.Module, discriminator: nn.Module, batch: int, dtype: torch.dtype) -> list[Product]:
    """What one step needs, with batches of this size."""
    g, d = widths(generator), widths(discriminator)
    return [
        *_forward(g, batch, dtype),
        *_forward(d, 2 * batch, dtype),
        *_of_weights(d, 2 * batch, dtype),
        *_of_inputs(d, 2 * batch, dtype, first=False),
        *_forward(d, batch, dtype),
        *_of_inputs(d, batch, dtype, first=True),
        *_of_weights(g, batch, dtype),
        *_of_inputs(g, batch, dtype, first=False),
    ]


def widths(network: nn.Module) -> list[int]:
    """The features of a perceptron, from its input to its output."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def _forward(sizes: list[int], rows: int, dtype: torch.dtype) -> Iterator[Product]:
    for inputs, outputs in pairwise(sizes):
        yield _random(rows, inputs, dtype), _random(outputs, inputs, dtype).t(), _random(rows, outputs, dtype)


def _of_weights(sizes: list[int], rows: int, dtype: torch.dtype) -> Iterator[Product]:
    for inputs, outputs in pairwise(sizes):
        yield _random(rows, outputs, dtype).t(), _random(rows, inputs, dtype), _random(outputs, inputs, dtype)


def _of_inputs(sizes: list[int], rows: int, dtype: torch.dtype, *, first: bool) -> Iterator[Product]:
    for inputs, outputs in pairwise(sizes if first else sizes[1:]):
        yield _random(rows, outputs, dtype), _random(outputs, inputs, dtype), _random(rows, inputs, dtype)


def _random(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(rows, columns).to(dtype)
