"""A regularizer with state, which is saved in checkpoints and restored on resume."""

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore import Penalty, Regularizer, Schedulable, Scores, Spec, TrainingTime, value_at


class Anchors(Regularizer):
    """Distance of D's scores from the running mean of the other side's, Tseng et al. 2021 (arXiv:2104.03310).

    A short form of the built-in `lecam`, whose running means begin with those of the first batch.
    """

    name = "anchors"
    whole_batch = True  # the running means are those of whole batches
    weight: Schedulable = Field(default=0.1, ge=0, description="weight of the mean squared distances")
    decay: float = Field(default=0.99, ge=0, lt=1, description="share of a running mean that an update keeps")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time)

    def build(self, spec: Spec) -> Penalty:
        return _AnchorPenalty(self.decay)


class _AnchorPenalty(nn.Module):
    """The penalty, with running means of D's scores for real images and for fakes in buffers."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))
        self.real: Tensor
        self.fake: Tensor

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        self.real.lerp_(real.logits.detach().mean().to(self.real.dtype), 1 - self.decay)
        self.fake.lerp_(fake.logits.detach().mean().to(self.fake.dtype), 1 - self.decay)
        # Cloned, since with micro-batches the running means change in place before the backward pass.
        of_real = (real.logits - self.fake.clone()).square().mean()
        of_fake = (fake.logits - self.real.clone()).square().mean()
        return of_real + of_fake
