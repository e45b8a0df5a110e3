"""Labels as one-hot vectors, the simplest way to condition a network on classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


class OneHotConcat(nn.Sequential):
    """Layers on flat input (N, F); in a conditional run on (N, F + K), with labels (N,) appended as one-hot vectors."""

    def __init__(self, layers: list[nn.Module], num_classes: int | None) -> None:
        super().__init__(*layers)
        self._num_classes = num_classes

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Tensor:
        hidden = batch.flatten(1)  # (N, F)
        if labels is not None and self._num_classes is not None:
            hidden = torch.cat([hidden, one_hot(labels, self._num_classes).to(hidden.dtype)], dim=1)  # (N, F + K)
        for layer in self:
            hidden = layer(hidden)
        return hidden
