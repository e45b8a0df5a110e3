"""Micro-batches: the parts of a batch that go through the networks at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gancore.contracts import Generated
from gancore.data.feed import Batch


@dataclass(slots=True)
class MicroBatch:
    """Real images, their condition, and latents for the same number of fakes.

    `images` (n, *shape) as networks see them; `condition` (n,) int64 labels or (n, …) tensors, None unless the run is
    conditional; `latent` (n, Z); `total` images of the whole batch over all ranks; `fake`, connected to G, if G's
    update scores the same fakes as D's.
    """

    images: Tensor
    condition: Tensor | None
    latent: Tensor
    total: int
    fake: Generated | None = None

    @property
    def share(self) -> float:
        """The share of the whole batch, in 0..1."""
        return self.images.shape[0] / self.total


def micro_batches(batch: Batch, latent: Tensor, count: int, *, conditional: bool) -> list[MicroBatch]:
    """Split a batch of n images and its latents (n, Z) into at most `count` parts of nearly equal size."""
    condition = batch.condition if conditional else None
    if count == 1:
        return [MicroBatch(batch.images, condition, latent, batch.total)]
    images, latents = torch.chunk(batch.images, count), torch.chunk(latent, count)
    conditions = [None] * len(images) if condition is None else torch.chunk(condition, count)
    return [MicroBatch(*tensors, batch.total) for tensors in zip(images, conditions, latents, strict=True)]
