"""The last layers of a discriminator: from features to one logit, with labels and batch statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gancore.contracts import Condition, Output
from gancore_plugins.networks.condition import condition_embedding

CLASSIFIER = (
    "add a head `classes` that predicts the class, Odena et al. 2017 (arXiv:1610.09585), for losses that use it"
)
"""Help text of the field `classifier` of several discriminators."""
MINIBATCH_STDDEV = "images in a group for the minibatch standard deviation, Karras et al. 2018 (arXiv:1710.10196)"
"""Help text of the field `minibatch_stddev` of several discriminators."""


class DiscriminatorHead(nn.Module):
    """Features (N, F) to logits (N, 1); with a condition, by projection, Miyato and Koyama 2018 (arXiv:1802.05637).

    The logit is w . f + b, plus e(c) . f in a conditional run, where e embeds labels or maps vectors linearly. With
    `classifier` the result is an `Output` with a head `classes` (N, K), a linear function of the same features that
    does not see the labels.
    """

    def __init__(
        self,
        features: int,  # F
        condition: Condition | None,  # classes K or a vector (V,); None unless the run is conditional
        *,
        classifier: bool = False,  # ignored without classes
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.embedding = condition_embedding(condition, features)
        self.classifier: nn.Linear | None = None
        if classifier and isinstance(condition, int):
            self.classifier = nn.Linear(features, condition)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Tensor | Output:
        logits: Tensor = self.linear(features)  # (N, 1)
        if self.embedding is not None and condition is not None:
            logits = logits + (self.embedding(condition) * features).sum(dim=1, keepdim=True)  # (N, 1)
        return logits if self.classifier is None else Output(logits, heads={"classes": self.classifier(features)})


class WithHead(nn.Module):
    """A discriminator: a body from images (N, C, H, W) to features (N, F), and a head."""

    def __init__(self, body: nn.Module, head: DiscriminatorHead) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor | Output:
        output: Tensor | Output = self.head(self.body(images), condition)
        return output


class MinibatchStddev(nn.Module):
    """Appends a channel with the spread of features within a group, Karras et al. 2018, sec. 3 (arXiv:1710.10196).

    Features (N, C, H, W) to (N, C + 1, H, W). The new channel is constant for an image: the standard deviation over
    the images of its group, averaged over channels and pixels.
    """

    def __init__(self, group: int) -> None:  # images in a group; fewer if that does not divide the batch
        super().__init__()
        self.group = group

    def forward(self, features: Tensor) -> Tensor:
        count, _, height, width = features.shape
        group = next(size for size in range(min(self.group, count), 0, -1) if count % size == 0)
        groups = features.reshape(group, -1, *features.shape[1:])  # (group, N / group, C, H, W)
        spread = (groups.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (N / group,)
        channel = spread.repeat(group)[:, None, None, None].expand(-1, 1, height, width)  # (N, 1, H, W)
        return torch.cat([features, channel], dim=1)
