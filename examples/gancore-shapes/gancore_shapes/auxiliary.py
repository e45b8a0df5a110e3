"""A discriminator with two outputs and a feature, and two losses that use them.

The training loop does not know about either: `Output.heads` and `Output.features` come back in `Scores`.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from gancore import ConfigError, Discriminator, Loss, Output, Scores, Spec


class Auxiliary(Discriminator):
    """Perceptron that also predicts the class of an image, Odena et al. 2017 (arXiv:1610.09585)."""

    name = "auxiliary"
    units: int = Field(default=64, ge=1, le=4096, description="hidden units, which are the features")

    def build(self, spec: Spec) -> nn.Module:
        return _Perceptron(math.prod(spec.shape), self.units, spec.classes())


class _Perceptron(nn.Module):
    """Images (N, *shape) to a logit (N, 1), features (N, units), and in a conditional run the head `classes` (N, K)."""

    def __init__(self, inputs: int, units: int, num_classes: int | None) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(inputs, units), nn.LeakyReLU(0.2))
        self.logit = nn.Linear(units, 1)
        self.classes = None if num_classes is None else nn.Linear(units, num_classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Output:  # labels are predicted, so not used
        features = self.hidden(images)  # (N, units)
        heads = {} if self.classes is None else {"classes": self.classes(features)}
        return Output(self.logit(features), features=(features,), heads=heads)


class ACGAN(Loss):
    """BCE plus the cross-entropy of classes, for D and for G, Odena et al. 2017 (arXiv:1610.09585)."""

    name = "acgan"
    weight: float = Field(default=1.0, ge=0, description="weight of the cross-entropy of classes")

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        bce = softplus(-real.logits).mean() + softplus(fake.logits).mean()
        return bce + self.weight * (_class_loss(real) + _class_loss(fake))

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return softplus(-fake.logits).mean() + self.weight * _class_loss(fake)


def _class_loss(scores: Scores) -> Tensor:
    if scores.condition is None or "classes" not in scores.heads:
        raise ConfigError(
            "loss 'acgan' needs labels, and a discriminator with a head 'classes'",
            "--discriminator auxiliary --set training.conditional=true",
        )
    return cross_entropy(scores.heads["classes"], scores.condition)


class FeatureMatching(Loss):
    """G matches the mean of D's features for real images, Salimans et al. 2016 (arXiv:1606.03498)."""

    name = "feature-matching"
    needs_real = True

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return softplus(-real.logits).mean() + softplus(fake.logits).mean()

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        if real is None or not real.features:
            raise ConfigError(
                "loss 'feature-matching' needs a discriminator that returns features", "--discriminator auxiliary"
            )
        pairs = zip(fake.features, real.features, strict=True)
        distances = [(of_fake.mean(dim=0) - of_real.mean(dim=0)).square().sum() for of_fake, of_real in pairs]
        return torch.stack(distances).sum()
