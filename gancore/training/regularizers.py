"""Regularizers at work: whose turn it is in an update, what they add to it, and what they confine after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from gancore.contracts import Critic, Penalty, Regularizer, Scores
from gancore.errors import PluginError, blame
from gancore.training.networks import described, is_loss


@dataclass(frozen=True)
class ActiveRegularizer:
    """A regularizer in an update in which it has a say."""

    label: str
    component: Regularizer
    working: Penalty
    strength: float


@dataclass(frozen=True)
class ActiveRegularizers:
    """One update of a player, as its regularizers see it."""

    due: tuple[ActiveRegularizer, ...]

    def differentiates(self, which: Literal["real", "fake"]) -> bool:
        """Whether a penalty asks for the gradient of these images."""
        return any(which in due.component.differentiates for due in self.due)

    def leaf(self, which: Literal["real", "fake"], images: Tensor) -> Tensor:
        """The images, as a leaf of the graph of the pass to come where a penalty asks for their gradient."""
        return images.detach().requires_grad_() if self.differentiates(which) else images

    def penalties(self, critic: Critic, real: Scores, fake: Scores) -> dict[str, Tensor]:
        """What is added to the player's loss, by label: strength times penalty, for as many updates as it stands for.

        Raises PluginError for what is no scalar with a gradient.
        """
        added: dict[str, Tensor] = {}
        for due in self.due:
            with blame(f"regularizer {due.label!r}", "in penalty()"):
                penalty = due.working.penalty(critic, real, fake)
                if penalty is None:
                    continue
                if not is_loss(penalty, real.images):
                    raise PluginError(
                        f"a penalty must be None or a scalar tensor with a gradient, on {real.images.device}; "
                        f"regularizer {due.label!r} gave {described(penalty)}"
                    )
            added[due.label] = penalty * (due.strength * due.component.interval)
        return added

    @property
    def projects(self) -> bool:
        """Whether a regularizer does anything to the weights after the update."""
        nothing = (Regularizer.project, Penalty.project)
        return any(getattr(type(due.working), "project", None) not in nothing for due in self.due)

    def project(self, module: nn.Module) -> None:
        """Confines the player's weights after its update."""
        for due in self.due:
            with blame(f"regularizer {due.label!r}", "in project()"):
                due.working.project(module, due.strength)
