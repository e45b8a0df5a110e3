"""The GANs of several ranks stay one: the same state, the same verdicts, and randomness that differs where it must."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from torch import Tensor

from gancore.contracts import Scores
from gancore.training.gan import GAN
from gancore.utils.random import derive_seed, seeded


def broadcast_state(gan: GAN) -> None:
    """Gives all ranks what training has changed so far, and the place in the run, as they are at rank 0."""
    if not gan.ranks.is_distributed:
        return
    tensors, place = gan.ranks.broadcast_tensors(gan.tensors()), gan.ranks.broadcast(gan.place())
    if not gan.ranks.is_main:
        gan.restore(tensors, place)


def randomness(gan: GAN) -> AbstractContextManager[None]:
    """What modules draw in this block is the run's own.

    Rank 0 goes on where it was, as when alone; another begins anew at every step, elsewhere than any other, so that
    nothing of it need be saved.
    """
    if gan.ranks.is_main:
        return gan.randomness.lent()
    now = gan.progress
    return seeded(derive_seed(gan.options.seed, "rank", gan.ranks.rank, now.step, now.nonfinite), gan.device)


def across(gan: GAN, scores: Scores, count: int) -> Scores:
    """The scores of a share of a batch of `count`, with a mean over all of it; parts of a share keep their own."""
    if not gan.ranks.is_distributed or gan.options.training.accumulate > 1:
        return scores
    return replace(scores, mean=gan.ranks.mean_of(count))


def average_statistics(gan: GAN, share: float) -> None:
    """Makes the floating buffers of all parts the same on all ranks: their mean, by the share of the batch.

    Those of the average of G's weights are left out: they are copies.
    """
    if not gan.ranks.is_distributed:
        return
    parts = [module for role, module in gan.modules().items() if role != "ema"]
    buffers: list[Tensor] = [each for part in parts for each in part.buffers() if each.is_floating_point()]
    gan.ranks.average(buffers, share)
