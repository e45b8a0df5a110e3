"""Conditions appended to flat input, the simplest way to condition a network on classes or on tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gancore.contracts import Component, Condition, Spec
from gancore.errors import ConfigError


def condition_width(condition: Condition | None) -> int:
    """Return the number of values that a condition appends to each sample: classes, or elements of a tensor."""
    if condition is None:
        return 0
    return condition if isinstance(condition, int) else math.prod(condition)


class ConditionConcat(nn.Sequential):
    """Layers on flat input (N, F); in a conditional run on (N, F + W), with the condition of each sample appended.

    Labels (N,) are appended as one-hot vectors, tensors (N, …) flattened; W is `condition_width`.
    """

    def __init__(self, layers: list[nn.Module], condition: Condition | None) -> None:
        super().__init__(*layers)
        self._condition = condition

    def forward(self, batch: Tensor, condition: Tensor | None = None) -> Tensor:
        hidden = batch.flatten(1)  # (N, F)
        if condition is not None and self._condition is not None:
            classes = self._condition
            flat = one_hot(condition, classes) if isinstance(classes, int) else condition.flatten(1)  # (N, W)
            hidden = torch.cat([hidden, flat.to(hidden.dtype)], dim=1)  # (N, F + W)
        for layer in self:
            hidden = layer(hidden)
        return hidden


def flat_condition(spec: Spec, component: Component) -> Condition | None:
    """Return the condition, classes or a vector. Raise ConfigError for others, with the component's name."""
    if isinstance(spec.condition, tuple) and len(spec.condition) != 1:
        raise ConfigError(
            f"{component.kind} {component.name} supports classes and vectors as a condition, not tensors of shape "
            f"{spec.condition}",
            "choose a network for such conditions (mlp flattens them), or --set training.conditional=false",
        )
    return spec.condition


def condition_embedding(condition: Condition | None, features: int) -> nn.Embedding | nn.Linear | None:
    """Return a map from labels (N,) or vectors (N, V) to (N, F), linear in vectors; None without a condition."""
    if condition is None:
        return None
    if isinstance(condition, int):
        return nn.Embedding(condition, features)
    return nn.Linear(condition[0], features, bias=False)
