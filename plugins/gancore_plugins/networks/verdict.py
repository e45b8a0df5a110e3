"""The end of a discriminator: from features to one logit, and what the labels and the batch have to say in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gancore.contracts import Output

CLASSIFIER = "name the class too, in the head `classes`, Odena et al. 2017 (arXiv:1610.09585), for a loss that asks"


class Verdict(nn.Module):
    """Features (N, F) to logits (N, 1); with classes, by projection, Miyato and Koyama 2018 (arXiv:1802.05637).

    The logit is w . f + b, and e(label) . f beside it. A classifier, which is not told the label, says of the same
    features in a head (N, K) which class they show.
    """

    def __init__(self, features: int, num_classes: int | None, *, classifier: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, features)
        self.classifier = None if num_classes is None or not classifier else nn.Linear(features, num_classes)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor | Output:
        logits: Tensor = self.linear(features)
        if self.embedding is not None and labels is not None:
            logits = logits + (self.embedding(labels) * features).sum(dim=1, keepdim=True)
        return logits if self.classifier is None else Output(logits, heads={"classes": self.classifier(features)})


class WithHead(nn.Module):
    """A body that reads features off images, and the verdict on these."""

    def __init__(self, body: nn.Module, verdict: Verdict) -> None:
        super().__init__()
        self.body, self.verdict = body, verdict

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | Output:
        said: Tensor | Output = self.verdict(self.body(images), labels)
        return said


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
