"""Layers that several families use."""

from itertools import pairwise

from torch import nn


def perceptron(*widths: int, dropout: float = 0.0) -> nn.Sequential:
    """Return linear layers from (N, widths[0]) to (N, widths[-1]), with LeakyReLU(0.2) and dropout between them."""
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for inputs, outputs in pairwise(widths[1:]):
        layers += [nn.LeakyReLU(0.2), *([nn.Dropout(dropout)] if dropout else []), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)
