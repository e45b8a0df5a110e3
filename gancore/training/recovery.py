"""How a run goes on after numbers that were not finite: what was changed is put back, so often as the limit allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gancore.errors import NonFiniteError
from gancore.training.gan import GAN


def count_or_raise(gan: GAN, error: NonFiniteError) -> str:
    """Counts that something was not finite, and says how often it has been; raises the error beyond the limit."""
    limit = gan.options.training.nonfinite_limit
    if gan.progress.nonfinite >= limit:
        error.message += f"; number {limit + 1} of its kind, and training.nonfinite_limit is {limit}"
        raise error
    gan.progress.nonfinite += 1
    return f"{gan.progress.nonfinite} of at most {limit} times"


class StepSnapshot:
    """What a step may have changed by the time that its numbers prove not to be finite.

    That are D, its optimizer, and all buffers. G, its optimizer and the average come last in a step; only where
    regularizers have a say in G's update can something go wrong after it.
    """

    def __init__(self, gan: GAN) -> None:
        self._gan = gan
        self._players = {"discriminator"} | {each.player for each in gan.regularizers.values()}
        self._tensors = {place: tensor.detach().clone() for place, tensor in self._changing()}
        self._states = {
            player: {weight: _copied(each) for weight, each in gan.optimizers[player].state.items()}
            for player in self._players
        }

    @torch.no_grad()
    def back(self) -> None:
        """Puts it back, bit for bit."""
        for place, tensor in self._changing():
            tensor.copy_(self._tensors[place])
        for player, states in self._states.items():
            self._gan.optimizers[player].state = defaultdict(dict, states)

    def _changing(self) -> Iterator[tuple[tuple[str, str], Tensor]]:
        for role, module in self._gan.modules().items():
            if role == "ema":
                continue
            yield from (((role, name), value) for name, value in module.named_buffers())
            if role != "generator" or role in self._players:
                yield from (((role, name), value) for name, value in module.named_parameters() if value.requires_grad)


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:  # Any: an optimizer's own
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
