"""An auxiliary classifier, Odena et al. 2017 (arXiv:1610.09585): images should also show the requested class."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from gancore.contracts import Scores
from gancore.errors import ConfigError
from gancore_plugins.losses.bce import NonSaturating


class AuxiliaryClassifier(NonSaturating):
    """BCE as in `bce`, plus the cross-entropy of D's head `classes`, Odena et al. 2017 (arXiv:1610.09585).

    With L the mean cross-entropy of the head with the labels, D minimizes `bce` plus `weight` times the sum of L of
    real images and L of fakes, G minimizes `bce` plus `weight` times L of fakes.
    """

    name = "auxiliary-classifier"
    weight: float = Field(default=1.0, ge=0, description="weight of the cross-entropy of classes; 1 in the paper")

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return super().discriminator(real, fake) + self.weight * (_class_loss(real) + _class_loss(fake))

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return super().generator(fake, real) + self.weight * _class_loss(fake)


def _class_loss(scores: Scores) -> Tensor:
    """Return the mean cross-entropy of the head `classes` with the labels. Raise ConfigError if one is missing."""
    labels = scores.condition
    if labels is None or labels.is_floating_point():
        raise ConfigError(
            "loss 'auxiliary-classifier' needs a conditional run on classes, for its labels",
            "--set training.conditional=true if the dataset has classes, or use another loss, such as bce",
        )
    if "classes" not in scores.heads:
        raise ConfigError(
            "loss 'auxiliary-classifier' needs a discriminator with a head `classes`; "
            f"this one has {', '.join(map(repr, scores.heads)) or 'no heads'}",
            "--set discriminator.classifier=true (dcgan, light, resnet, style and subpixel have this field)",
        )
    return cross_entropy(scores.heads["classes"], labels)
