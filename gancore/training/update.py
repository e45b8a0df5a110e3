"""An update of a player: the gradients of all micro-batches and ranks are added, then its optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gancore.contracts import Player, Scores
from gancore.errors import blame
from gancore.settings import value_at
from gancore.training.finite import gradients_of, norms_of
from gancore.training.networks import concat_scores

if TYPE_CHECKING:
    from gancore.training.gan import GAN


class Update:
    """One update of a player, its `number`-th in this step, from 0. Making it clears the player's gradients.

    After `step`, `loss` () without penalties and `penalties` by label are those of the whole batch over all ranks.
    """

    def __init__(self, gan: GAN, player: Player, number: int = 0) -> None:
        self._gan, self._player, self._optimizer = gan, player, gan.optimizers[player]
        groups = self._optimizer.param_groups
        # The user's own optimizers may have frozen parameters.
        self._weights = [weight for group in groups for weight in group["params"] if weight.requires_grad]
        self.regularizers = gan.active_regularizers(player, number)
        self._losses: list[Tensor] = []
        self.loss: Tensor
        self.penalties: dict[str, Tensor] = {}
        for weight in self._weights:
            weight.grad = None

    def backward(self, loss: Tensor, penalties: Mapping[str, Tensor], share: float) -> None:
        """Add the gradient of a loss and penalties, weighted by their share of the whole batch."""
        try:
            total = sum(penalties.values(), start=loss) if penalties else loss
            total = total if share == 1 else total * share
            # Named, so that nothing else collects a gradient: not images that a penalty differentiates with respect to,
            # nor parts of the other player. The preflight names none, or autograd would not notice a D that cannot be
            # differentiated twice.
            weights: list[Tensor] | None = self._weights
            if self._gan.is_preflight_copy:
                weights = None
                self._gan.preflight_leaves |= leaves_of(total)
            torch.autograd.backward(total, inputs=weights)
        except BaseException:
            of = "loss and penalties" if penalties else "loss"
            with blame(f"gradient of the {of} in the {self._player}'s step"):
                raise
        self._losses.append(loss.detach() if share == 1 else loss.detach() * share)
        for label, penalty in penalties.items():
            self.penalties[label] = self.penalties.get(label, 0) + penalty.detach() * share

    def step(self, total: int, scores: Sequence[tuple[Scores, Scores]] = ()) -> tuple[Scores, ...]:
        """Step the optimizer with the gradients of all ranks, then project the weights.

        Returns the scores of the micro-batches as those of the whole batch of `total` images: real, fake. Raises
        NonFiniteError before an update that is not finite.
        """
        self.loss = sum(self._losses[1:], start=self._losses[0])
        merged = scores[0] if len(scores) == 1 else tuple(map(concat_scores, zip(*scores, strict=True)))
        if self._gan.ranks.is_distributed:
            merged = self._all_reduce(total, merged)
        gan, limit = self._gan, self._gan.options.training.clip_norm
        modules = gan.trained_by[self._player]
        named = {"loss": self.loss, **{f"penalty {label}": value for label, value in self.penalties.items()}}
        # Before clipping, which divides by the norm: an infinite one would turn infinity into NaN.
        norms = gan.finite_check.check_gradients(self._player, modules, self._optimizer, named, self._weights)
        if limit is not None:
            if norms is None:
                norms = norms_of(gradients_of(self._weights))
            if norms:
                norm = torch.linalg.vector_norm(torch.stack([*norms]))
                nn.utils.clip_grads_with_norm_(self._weights, value_at(limit, gan.time()), norm)
        self._optimizer.step()
        if self.regularizers.active:
            self.regularizers.project(modules[self._player])
            if self.regularizers.projects:
                gan.finite_check.check_weights(self._player, modules[self._player])
        return merged

    def _all_reduce(self, total: int, scores: Sequence[Scores]) -> tuple[Scores, ...]:
        """Add up gradients, loss and penalties over all ranks in one message, and gather logits (total, K)."""
        ranks, labels = self._gan.ranks, [regularizer.label for regularizer in self.regularizers.active]
        logits = [ranks.padded(score.logits.detach(), total) for score in scores]
        own: dict[tuple[str, object], tuple[Tensor | None, Tensor]] = {("loss", ""): (self.loss, self.loss)}
        own |= {("penalty", label): (self.penalties.get(label), self.loss) for label in labels}
        own |= {("logits", index): (rows, rows) for index, rows in enumerate(logits)}
        own |= {("weight", index): (weight.grad, weight) for index, weight in enumerate(self._weights)}
        sums = ranks.all_reduce_sum(own)
        for index, weight in enumerate(self._weights):
            weight.grad = sums.get(("weight", index))
        self.loss = sums["loss", ""]
        self.penalties = {label: sums["penalty", label] for label in labels if ("penalty", label) in sums}
        return tuple([replace(score, logits=sums["logits", index]) for index, score in enumerate(scores)])


def leaves_of(loss: Tensor) -> set[Tensor]:
    """Return the leaf tensors that a backward pass from the loss () would give a gradient."""
    leaves, waiting, seen = set[Tensor](), [loss.grad_fn], set[object]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(variable := getattr(node, "variable", None), Tensor):
            leaves.add(variable)
        waiting += [following for following, _ in node.next_functions]
    return leaves
