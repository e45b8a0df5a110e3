"""A regularizer with a memory, which is saved and resumed with the run."""

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore import Critic, Penalty, Regularizer, Schedulable, Scores, TrainingTime, value_at


class LeCam(Regularizer):
    """Holds D's scores to the running mean of those of the other side, Tseng et al. 2021 (arXiv:2104.03310)."""

    name = "lecam"
    whole_batch = True  # the means that it holds scores to are those of whole batches
    weight: Schedulable = Field(default=0.1, ge=0, description="of the mean square of the differences")
    decay: float = Field(default=0.99, ge=0, lt=1, description="share of a running mean that an update keeps")

    def strength(self, moment: TrainingTime) -> float:
        return value_at(self.weight, moment)

    def penalty(self, critic: Critic, real: Scores, fake: Scores) -> Tensor:
        raise TypeError("it scores through the module that it builds")

    def build(self) -> Penalty:
        return _Anchors(self.decay)


class _Anchors(nn.Module):
    """The running means of D's scores, for real images and for fakes."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))
        self.real: Tensor
        self.fake: Tensor

    def penalty(self, critic: Critic, real: Scores, fake: Scores) -> Tensor:
        self.real.lerp_(real.logits.detach().mean().to(self.real.dtype), 1 - self.decay)
        self.fake.lerp_(fake.logits.detach().mean().to(self.fake.dtype), 1 - self.decay)
        # Copies, since the means move on before the gradient is taken where a batch is taken in parts.
        of_real = (real.logits - self.fake.clone()).square().mean()
        of_fake = (fake.logits - self.real.clone()).square().mean()
        return of_real + of_fake

    def project(self, module: nn.Module, strength: float) -> None:
        """D's weights are left alone."""
