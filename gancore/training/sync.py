"""Keeps all ranks in sync: broadcasts the state, averages buffers, and gives each rank its own random stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gancore.config.optimizers import begins
from gancore.errors import ConfigError
from gancore.training.ema import is_average
from gancore.training.micro_batch import MicroBatch
from gancore.utils.random import derive_seed, seeded

if TYPE_CHECKING:
    from gancore.training.gan import GAN


def broadcast_state(gan: GAN) -> None:
    """Give all ranks rank 0's state and progress."""
    if not gan.ranks.is_distributed:
        return
    tensors = gan.ranks.broadcast_tensors(gan.state.tensors())
    place = gan.ranks.broadcast(gan.state.place())
    if not gan.ranks.is_main:
        gan.restore(tensors, place)


def own_randomness(gan: GAN) -> AbstractContextManager[None]:
    """Give modules that draw random numbers in the block the run's stream.

    Rank 0 continues its saved stream. Every other rank starts its own stream at each step, so that its state need not
    be saved.
    """
    if gan.ranks.is_main:
        return gan.state.randomness.lent()
    now = gan.progress
    return seeded(derive_seed(gan.options.seed, "rank", gan.ranks.rank, now.step, now.nonfinite), gan.device)


def average_buffers(gan: GAN, parts: Sequence[MicroBatch]) -> None:
    """Average the floating-point buffers of all parts over all ranks, weighted by each rank's share of the batch.

    Buffers of averages (EMA) are copies of G's and are left out, and so are frozen ones, which the average would round.
    """
    if not gan.ranks.is_distributed:
        return
    frozen = gan.options.training.freeze
    buffers: list[Tensor] = [
        buffer
        for role, module in gan.state.modules.items()
        for name, buffer in module.named_buffers(prefix=role)
        if not is_average(role) and buffer.is_floating_point() and not any(begins(name, prefix) for prefix in frozen)
    ]
    gan.ranks.average(buffers, sum(part.share for part in parts))


def synchronize_batchnorm(gan: GAN) -> None:
    """Make batch normalization in both networks normalize over the batches of all ranks.

    Raises ConfigError where torch cannot: on the CPU, and under penalties that differentiate twice through it.
    """
    networks = gan.generator, gan.discriminator
    normalized = [
        module
        for module in networks
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
    ]
    for label, regularizer in gan.regularizers.items():
        through = networks if regularizer.player == "generator" else networks[1:]
        twice = regularizer.differentiates or regularizer.per_sample or regularizer.whole_batch
        if twice and any(module in normalized for module in through):
            raise ConfigError(
                f"regularizer {label!r} differentiates twice, which synchronized batch normalization does not support",
                "--set training.sync_batchnorm=false, or choose networks without batch normalization",
            )
    if normalized and gan.device.type != "cuda":
        raise ConfigError(
            f"synchronized batch normalization needs CUDA; the device is {gan.device.type}",
            "--set training.sync_batchnorm=false",
        )
    gan.generator, gan.discriminator = map(nn.SyncBatchNorm.convert_sync_batchnorm, networks)
