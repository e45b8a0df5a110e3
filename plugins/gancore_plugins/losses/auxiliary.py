"""An auxiliary classifier, Odena et al. 2017 (arXiv:1610.09585): images should also show what was asked for."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from gancore.contracts import Scores
from gancore.errors import ConfigError
from gancore_plugins.losses.bce import NonSaturating


class AuxiliaryClassifier(NonSaturating):
    """BCE as in `bce`, and the class that D's head `classes` reads, Odena et al. 2017 (arXiv:1610.09585).

    With L the mean cross-entropy of the head with the labels, D minimizes in addition `weight` times L of real and of
    fake images, G `weight` times L of fakes.
    """

    name = "auxiliary-classifier"
    weight: float = Field(default=1.0, ge=0, description="of the class beside the verdict; the paper's is 1")

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return super().discriminator(real, fake) + self.weight * (_misread(real) + _misread(fake))

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return super().generator(fake, real) + self.weight * _misread(fake)


def _misread(scores: Scores) -> Tensor:
    if scores.labels is None:
        raise ConfigError(
            "loss 'auxiliary-classifier' takes the labels of a conditional run, and this run has none",
            "--set training.conditional=true where the data has classes, else another loss, such as bce",
        )
    if "classes" not in scores.heads:
        raise ConfigError(
            "loss 'auxiliary-classifier' takes a discriminator with a head `classes`; "
            f"this one has {', '.join(map(repr, scores.heads)) or 'no heads'}",
            "--set discriminator.classifier=true, which dcgan, resnet and subpixel have",
        )
    return cross_entropy(scores.heads["classes"], scores.labels)
