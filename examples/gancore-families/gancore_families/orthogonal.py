"""A regularizer of the weights themselves."""

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore import Regularizer, Schedulable, Scores, TrainingTime, value_at


class Orthogonal(Regularizer):
    """Different rows of each weight of D are orthogonal, Brock et al. 2019, eq. 3 (arXiv:1809.11096)."""

    name = "orthogonal"
    weight: Schedulable = Field(default=1e-3, ge=0, description="weight of the sum of the squared products")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time)

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        return products(real.players.discriminator)


def products(module: nn.Module) -> Tensor:
    """Return the sum of the squared products of different rows, over all weights of more than one dimension."""
    rows = [weight.flatten(1) for weight in module.parameters() if weight.ndim > 1]
    return torch.stack([(each @ each.T).fill_diagonal_(0).square().sum() for each in rows]).sum()
