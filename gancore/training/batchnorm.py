"""Running statistics of batch normalization, estimated anew for the weights that a generator has now.

Those of averaged weights (EMA) are averages over training, and need not fit the averaged weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gancore.config.optimizers import begins
from gancore.errors import ConfigError, blame
from gancore.training.networks import call, draw_latent
from gancore.utils.random import generator_for, seeded
from gancore.utils.sample_format import condition_to_network

if TYPE_CHECKING:
    from gancore.training.gan import GAN

_SAMPLES, _CHUNK = 4096, 64
_MOST_READ = 512
"""Items that are read for their conditions, where the data is not in memory; they are repeated."""
NO_STATISTICS = "the generator has no batch normalization with running statistics"
_OFF = "--set ema.refresh_batchnorm=false"


def batchnorms_of(generator: nn.Module, frozen: Collection[str] = ()) -> list[_BatchNorm]:
    """Return the batch normalizations of a generator that have running statistics.

    Those below a prefix of `frozen`, which is `training.freeze`, are left out.
    """
    kept = {
        part
        for name, part in generator.named_modules(remove_duplicate=False)
        if any(begins(f"generator.{name}" if name else "generator", prefix) for prefix in frozen)
    }
    norms = (part for part in generator.modules() if isinstance(part, _BatchNorm) and part.track_running_stats)
    return [norm for norm in norms if norm not in kept]


@torch.no_grad()
def refresh(
    generator: nn.Module,
    norms: Sequence[_BatchNorm],
    inputs: Iterable[tuple[Tensor, Tensor | None]],
    device: torch.device,
) -> None:
    """Estimate statistics of a generator anew from latents (n, Z) with their conditions, each chunk with equal weight.

    No stream of random numbers of the process changes. The generator is left as in evaluation mode.
    """
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all chunks
            norm.train()
        with seeded(0, device), blame("generator", "in forward()"):
            for latent, condition in inputs:
                call(generator, latent.to(device), None if condition is None else condition.to(device))
    finally:  # an interruption must not leave it in training mode
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


class FreshStatistics:
    """Refreshes averages (EMA) of a GAN, each once for its present weights.

    Training does not depend on it: its next step replaces the statistics by those of G. Raises ConfigError if G has no
    statistics.
    """

    def __init__(self, gan: GAN) -> None:
        self._gan = gan
        self._times: dict[str, tuple[int, int]] = {}
        if not batchnorms_of(gan.generator):
            raise ConfigError(NO_STATISTICS, _OFF)

    def refresh(self, roles: Iterable[str]) -> None:
        """Estimate the statistics of averages anew, from 4,096 samples that are the same each time.

        Conditions are as frequent as in the data.
        """
        gan = self._gan
        now = gan.progress.step, gan.progress.nonfinite  # a rollback counts as not finite
        for role in roles:
            if gan.averages is not None and self._times.get(role) != now:
                average = gan.averages.modules[role]
                pairs = zip(batchnorms_of(average), batchnorms_of(gan.generator), strict=True)
                norms = [norm for norm, trained in pairs if trained.training]  # frozen ones keep their statistics
                refresh(average, norms, _inputs(gan), gan.device)
                self._times[role] = now

    def forget(self) -> None:
        """Forget what was refreshed, since the weights were replaced."""
        self._times.clear()


def _inputs(gan: GAN) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield chunks of latents and conditions that depend only on the seed of the run and the data."""
    noise = generator_for(gan.options.seed, "batch normalization", "latents", device="cpu")
    conditions = None
    if gan.spec.condition is not None:
        count = _SAMPLES if gan.feed.is_in_memory else _MOST_READ
        order = generator_for(gan.options.seed, "batch normalization", "items")
        conditions = condition_to_network(gan.feed.read(torch.randint(gan.feed.size, (count,), generator=order))[1])
    for start in range(0, _SAMPLES, _CHUNK):
        rows = None if conditions is None else torch.arange(start, start + _CHUNK) % len(conditions)
        yield draw_latent(gan.options.latent, _CHUNK, noise), None if conditions is None else conditions[rows]
