"""Balanced consistency regularization (bCR) of D, Zhao et al. 2021 (arXiv:2002.04724)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from gancore.contracts import Penalty, Regularizer, Schedulable, Scores, Spec, TrainingTime, value_at
from gancore.errors import ConfigError
from gancore_plugins.augmentations.diffaugment import OPERATIONS, Policy, check_policy


class Consistency(Regularizer):
    """Equal scores for an image and its augmented copy, real and fake: bCR, Zhao et al. 2021 (arXiv:2002.04724).

    weight * (weight_real * E (D(T(x)) - D(x))^2 + weight_fake * E (D(T(G(z))) - D(G(z)))^2), algorithm 1. T changes
    images only here; the paper uses no further augmentations. It costs two more passes of D.
    """

    name = "consistency"
    weight: Schedulable = Field(default=1.0, ge=0, description="factor of both weights")
    weight_real: float = Field(default=10.0, ge=0, description="weight for real images")
    weight_fake: float = Field(default=10.0, ge=0, description="weight for fakes")
    policy: tuple[Policy, ...] = Field(
        default=("translation",),
        min_length=1,
        description="operations of T, as in diffaugment; the paper mirrors as well, which is flip",
    )

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time)

    def build(self, spec: Spec) -> Penalty:
        if len(spec.shape) != 3:
            raise ConfigError(
                f"regularizer 'consistency' augments images (C, H, W); the data has shape {tuple(spec.shape)}",
                "--set regularizers.consistency=none",
            )
        check_policy(self.policy, spec)
        return self

    def penalty(self, real: Scores, fake: Scores) -> Tensor | None:
        weighted = ((real, self.weight_real), (fake, self.weight_fake))
        penalties = [weight * self._change(scores) for scores, weight in weighted if weight]
        return sum(penalties[1:], penalties[0]) if penalties else None

    def _change(self, scores: Scores) -> Tensor:
        """Return the mean squared difference between the logits of augmented images and of the images."""
        images = scores.images.detach()
        for name in self.policy:
            images = OPERATIONS[name](images)
        return mse_loss(scores.players.score(images, scores.condition, scores.extras).logits, scores.logits)
