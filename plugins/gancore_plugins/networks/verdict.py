"""The end of a discriminator: from features to one logit, and what the labels and the batch have to say in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Verdict(nn.Module):
    """Features (N, F) to logits (N, 1); with classes, by projection, Miyato and Koyama 2018 (arXiv:1802.05637).

    The logit is w . f + b, and e(label) . f beside it.
    """

    def __init__(self, features: int, num_classes: int | None) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, features)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.linear(features)
        if self.embedding is None or labels is None:
            return logits
        projected: Tensor = (self.embedding(labels) * features).sum(dim=1, keepdim=True)
        return logits + projected


class Judging(nn.Module):
    """A body that reads features off images, and the verdict on these."""

    def __init__(self, body: nn.Module, verdict: Verdict) -> None:
        super().__init__()
        self.body, self.verdict = body, verdict

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.verdict(self.body(images), labels)
        return logits


class MinibatchStddev(nn.Module):
    """One more channel that tells how different images are, Karras et al. 2018, section 3 (arXiv:1710.10196).

    Images are compared in groups of the given size, or of the largest smaller one that divides the batch.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C, H, W) to (N, C + 1, H, W)."""
        count, _, height, width = features.shape
        group = next(size for size in range(min(self.group, count), 0, -1) if count % size == 0)
        groups = features.reshape(group, -1, *features.shape[1:])
        spread = (groups.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (N / group,)
        return torch.cat([features, spread.repeat(group)[:, None, None, None].expand(-1, 1, height, width)], dim=1)
