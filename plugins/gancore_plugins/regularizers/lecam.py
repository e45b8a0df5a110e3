"""LeCam regularization for D on little data, Tseng et al. 2021 (arXiv:2104.03310)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Penalty, Regularizer, Schedulable, Scores, Spec, TrainingTime, value_at


class LeCam(Regularizer):
    """Logits near the running mean of the other kind of images, Tseng et al. 2021, eq. 4 (arXiv:2104.03310).

    weight * (E (D(x) - a_fake)^2 + E (D(G(z)) - a_real)^2), with anchors a that are moving averages of D's mean logits.
    They begin with the first batch after `start_kimg`. The paper has weight 0.3 and decay 0.99 for CIFAR.
    """

    name = "lecam"
    whole_batch = True  # the anchors move once per update
    weight: Schedulable = Field(default=0.3, ge=0, description="weight of both mean squared distances to the anchors")
    decay: float = Field(default=0.99, ge=0, lt=1, description="share of an anchor that stays in an update")
    start_kimg: float = Field(
        default=0.0, ge=0, description="thousands of real images before the penalty and its anchors begin"
    )

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time) if time.images_seen >= 1000 * self.start_kimg else 0.0

    def build(self, spec: Spec) -> Penalty:
        return _Anchors(self.decay)


class _Anchors(nn.Module):
    """The penalty, with the anchors () and the number of their updates in buffers of the checkpoint."""

    real: Tensor
    fake: Tensor
    updates: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        self._move(real, fake)
        return (real.logits - self.fake).square().mean() + (fake.logits - self.real).square().mean()

    @torch.no_grad()
    def _move(self, real: Scores, fake: Scores) -> None:
        """Move both anchors toward the mean logits of the batch over all ranks."""
        # A tensor, so that the CPU does not wait for the device. The first update takes the mean as it is.
        step = 1 - self._decay * (self.updates > 0).to(self.real.dtype)
        for anchor, scores in ((self.real, real), (self.fake, fake)):
            anchor.lerp_(scores.mean(scores.logits.detach()).mean().to(anchor.dtype), step)
        self.updates += 1
