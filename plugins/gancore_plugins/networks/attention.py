"""Self-attention, Zhang et al. 2019 (arXiv:1805.08318)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class SelfAttention(nn.Module):
    """Every pixel looks at all others, (N, C, H, W) to (N, C, H, W); it begins as the identity.

    Keys and values are pooled to a quarter of the pixels where the sides are even. It is written out in products of
    matrices, since fused attention cannot be differentiated twice, as gradient penalties do.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.out = nn.Conv2d(half, channels, 1, bias=False)
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        query, key, value = self.query(features), self.key(features), self.value(features)
        if all(side % 2 == 0 for side in features.shape[2:]):
            key, value = max_pool2d(key, 2), max_pool2d(value, 2)
        weights = (query.flatten(2).transpose(1, 2) @ key.flatten(2)).softmax(dim=2)  # (N, H W, H' W')
        seen = (value.flatten(2) @ weights.transpose(1, 2)).unflatten(2, features.shape[2:])
        changed: Tensor = features + self.share * self.out(seen)
        return changed
