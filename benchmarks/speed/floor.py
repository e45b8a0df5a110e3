"""A lower bound for a step of two MLPs: its matrix products only, with nothing before, between or after them.

With shared fakes a step computes, for every layer: G forward; D forward on real and fake images, the gradients of its
weights and of its inputs except those of the first layer; D forward on the fakes, and the gradients of all its inputs;
and the gradients of G, again except those of its first inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from time import perf_counter

import torch
from torch import Tensor, nn

from benchmarks.speed.timing import Run

Product = tuple[Tensor, Tensor, Tensor]
"""Two matrices and the output for their product."""


def start(generator: nn.Module, discriminator: nn.Module, batch: int, dtype: torch.dtype) -> Run:
    """Return a function that computes the products of a step of two MLPs, for a number of steps."""
    all_products = products(generator, discriminator, batch, dtype)

    def run(steps: int) -> float:
        begin = perf_counter()
        for _ in range(steps):
            for left, right, out in all_products:
                torch.mm(left, right, out=out)
        return perf_counter() - begin

    return run


def products(generator: nn.Module, discriminator: nn.Module, batch: int, dtype: torch.dtype) -> list[Product]:
    """Return the products of one step with batches of this size."""
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
    """Return the numbers of features of an MLP, from its input to its output."""
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
