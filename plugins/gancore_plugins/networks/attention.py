"""Self-attention, Zhang et al. 2019 (arXiv:1805.08318)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class SelfAttention(nn.Module):
    """Self-attention over all pixels, (N, C, H, W) to (N, C, H, W); the identity until `gamma` is trained.

    Keys and values are max-pooled to half the height and width where both are even. Attention is written as matrix
    products because gradient penalties differentiate twice, which fused attention does not support.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.out = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        query, key = self.query(features), self.key(features)  # (N, C / 8, H, W) each
        value = self.value(features)  # (N, C / 2, H, W)
        if all(side % 2 == 0 for side in features.shape[2:]):
            key, value = max_pool2d(key, 2), max_pool2d(value, 2)  # H' = H / 2, W' = W / 2
        weights = (query.flatten(2).transpose(1, 2) @ key.flatten(2)).softmax(dim=2)  # (N, H W, H' W')
        attended = value.flatten(2) @ weights.transpose(1, 2)  # (N, C / 2, H W)
        output: Tensor = features + self.gamma * self.out(attended.unflatten(2, features.shape[2:]))  # (N, C, H, W)
        return output
