"""Recovery from numbers that are not finite: a step is skipped, or the run rolls back, as often as the limit allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gancore.checkpoint import Checkpoint
from gancore.contracts import Player
from gancore.errors import NonFiniteError
from gancore.training.ema import is_average
from gancore.training.gan import GAN


def count_or_raise(gan: GAN, error: NonFiniteError) -> str:
    """Count an event that was not finite, and return the count in words; raise the error beyond the limit."""
    limit = gan.options.training.nonfinite_limit
    if gan.progress.nonfinite >= limit:
        error.message += f"; this is number {limit + 1}, and training.nonfinite_limit is {limit}"
        raise error
    gan.progress.nonfinite += 1
    return f"{gan.progress.nonfinite} of at most {limit} times"


class StepSnapshot:
    """A copy of what a step may have changed by the time its numbers turn out not to be finite.

    That is D, its optimizer, and all buffers; also G and its optimizer if a step updates G several times, or if G has
    regularizers, which can fail after its update. Averages are updated last.
    """

    def __init__(self, gan: GAN) -> None:
        self._gan = gan
        # A later update of G, or a regularizer of G, can fail after G has changed.
        changes_g = gan.options.training.generator_steps > 1 or any(
            regularizer.player == "generator" for regularizer in gan.regularizers.values()
        )
        self._players: tuple[Player, ...] = ("discriminator", "generator") if changes_g else ("discriminator",)
        self._tensors = {name: tensor.detach().clone() for name, tensor in self._changing()}
        self._states = {
            player: {weight: _copied(state) for weight, state in gan.optimizers[player].state.items()}
            for player in self._players
        }

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the copied state bit for bit."""
        for name, tensor in self._changing():
            tensor.copy_(self._tensors[name])
        for player, states in self._states.items():
            self._gan.optimizers[player].state = defaultdict(dict, states)

    def _changing(self) -> Iterator[tuple[tuple[str, str], Tensor]]:
        for role, module in self._gan.state.modules.items():
            if is_average(role):
                continue
            yield from (((role, name), value) for name, value in module.named_buffers())
            if role != "generator" or role in self._players:
                yield from (((role, name), value) for name, value in module.named_parameters() if value.requires_grad)


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:  # Any: an optimizer's own
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}


def roll_back(gan: GAN, saved: Checkpoint) -> None:
    """Restore a checkpoint of this run, and continue with other noise.

    Noise and the random numbers of modules then come from streams that depend on the seed and the number of rollbacks,
    so that the run does not fail in the same way again. The data order is unchanged.
    """
    number = gan.progress.nonfinite
    gan.restore(saved.tensors, saved.about["progress"])
    gan.progress.nonfinite = number
    gan.state.reseed(number)
