"""An update of a player: gradients of all parts of a batch, and of all ranks, added up, and then a step along them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from gancore.contracts import Player, Scores
from gancore.errors import blame
from gancore.settings import value_at
from gancore.training.gan import GAN


class Update:
    """One update of a player, its `number`-th in this step, from 0. The gradient of its weights is cleared at once."""

    def __init__(self, gan: GAN, player: Player, number: int) -> None:
        self._gan, self._player, self._optimizer = gan, player, gan.optimizers[player]
        self._weights = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        self.turn = gan.turn(player, number)
        self._losses: list[Tensor] = []
        self.penalties: dict[str, Tensor] = {}
        for weight in self._weights:
            weight.grad = None

    def add(self, loss: Tensor, penalties: Mapping[str, Tensor], share: float) -> None:
        """The gradient of a loss and what regularizers add to it, for such a share of the batch."""
        with blame(f"gradient in the {self._player}'s step"):
            total = sum(penalties.values(), start=loss)
            total = total if share == 1 else total * share
            # Else images whose gradient was asked for would collect one of the loss as well, at some cost.
            total.backward(inputs=self._weights if penalties else None)  # type: ignore[no-untyped-call]  # torch's
        self._losses.append(loss.detach() if share == 1 else loss.detach() * share)
        for label, penalty in penalties.items():
            self.penalties[label] = self.penalties.get(label, 0) + penalty.detach() * share

    @property
    def loss(self) -> Tensor:
        """That of the whole batch, without penalties."""
        return sum(self._losses[1:], start=self._losses[0])

    def agree(self, count: int, *seen: Scores) -> list[Scores]:
        """Adds up gradient, loss and penalties over all ranks; returns what D said with the `count` logits of all."""
        ranks, loss, labels = self._gan.ranks, self.loss, [due.label for due in self.turn.due]
        logits = [ranks.padded(each.logits.detach(), count) for each in seen]
        own: dict[tuple[str, object], tuple[Tensor | None, Tensor]] = {("loss", ""): (loss, loss)}
        own |= {("penalty", label): (self.penalties.get(label), loss) for label in labels}
        own |= {("logits", place): (each, each) for place, each in enumerate(logits)}
        own |= {("weight", place): (each.grad, each) for place, each in enumerate(self._weights)}
        sums = ranks.all_reduce_sum(own)
        for place, weight in enumerate(self._weights):
            weight.grad = sums.get(("weight", place))
        self._losses = [sums["loss", ""]]
        self.penalties = {label: sums["penalty", label] for label in labels if ("penalty", label) in sums}
        return [replace(each, logits=sums["logits", place]) for place, each in enumerate(seen)]

    def finish(self) -> None:
        """The step, and what regularizers make of the weights after it. Raises NonFiniteError instead of a bad step."""
        gan, player = self._gan, self._player
        module, limit = gan.modules()[player], gan.options.training.clip_norm
        scores = {"loss": self.loss, **{f"penalty {label}": each for label, each in self.penalties.items()}}
        # Before clipping, which divides all by an infinite norm, and infinity itself becomes NaN.
        norms = gan.watch.before(player, module, self._optimizer, scores, self._weights)
        if limit is not None:
            norm = torch.linalg.vector_norm(norms)
            nn.utils.clip_grads_with_norm_(self._weights, value_at(limit, gan.moment()), norm)
        self._optimizer.step()
        self.turn.project(module)
        if self.turn.projects:
            gan.watch.after(player, module)
