"""Regularizers in an update: which are active, what they add to the loss, and how they project the weights after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from gancore.contracts import Penalty, Regularizer, Scores
from gancore.errors import PluginError, blame
from gancore.training.networks import describe_tensor, is_loss


@dataclass(frozen=True)
class ActiveRegularizer:
    """A regularizer that is active in an update, with its strength at this point of the run."""

    label: str
    component: Regularizer
    penalty: Penalty
    strength: float


class ActiveRegularizers:
    """The regularizers that are active in one update of a player.

    `inputs` names the images, real or fake, that any of them differentiates with respect to.
    """

    def __init__(self, active: Sequence[ActiveRegularizer] = ()) -> None:
        self.active = active
        self.inputs = frozenset[str](name for regularizer in active for name in regularizer.component.differentiates)

    def as_leaf(self, name: Literal["real", "fake"], images: Tensor) -> Tensor:
        """Return the images, as a leaf of the next graph if a penalty differentiates with respect to them."""
        return images.detach().requires_grad_() if name in self.inputs else images

    def penalties(self, real: Scores, fake: Scores) -> dict[str, Tensor]:
        """Return what is added to the player's loss, by label: strength times interval times penalty.

        A lazy regularizer stands for the updates that it skips, so its interval multiplies it. Raises PluginError for
        a penalty that is not a scalar with a gradient.
        """
        added: dict[str, Tensor] = {}
        for regularizer in self.active:
            with blame(f"regularizer {regularizer.label!r}", "in penalty()"):
                penalty = regularizer.penalty.penalty(real, fake)
                if penalty is None:
                    continue
                if not is_loss(penalty, real.images):
                    raise PluginError(
                        f"a penalty must be None or a scalar tensor with a gradient, on {real.images.device}; "
                        f"regularizer {regularizer.label!r} returned {describe_tensor(penalty)}"
                    )
            added[regularizer.label] = penalty * (regularizer.strength * regularizer.component.interval)
        return added

    @property
    def projects(self) -> bool:
        """Whether a regularizer changes the weights after the update."""
        defaults = (None, Regularizer.project)
        return any(getattr(type(active.penalty), "project", None) not in defaults for active in self.active)

    def project(self, module: nn.Module) -> None:
        """Project the player's weights after its update, such as by clipping them."""
        for regularizer in self.active:
            with blame(f"regularizer {regularizer.label!r}", "in project()"):
                if hasattr(regularizer.penalty, "project"):
                    regularizer.penalty.project(module, regularizer.strength)


NO_REGULARIZERS = ActiveRegularizers()
