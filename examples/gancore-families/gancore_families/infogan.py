"""InfoGAN: some latents are codes that a further network can read from the image."""

import math

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gancore import ConfigError, Objective, Scores, Spec
from gancore_families.checks import required
from gancore_families.layers import perceptron
from gancore_plugins.losses.bce import NonSaturating


class InfoGAN(NonSaturating):
    """BCE, and the error of a network Q that reads codes from fakes, Chen et al. 2016 (arXiv:1606.03657)."""

    name = "infogan"
    codes: int = Field(default=2, ge=1, description="number of leading latents that are codes")
    weight: float = Field(default=1.0, ge=0, description="weight of the mean squared error of the codes")

    def build(self, spec: Spec) -> Objective:
        if self.codes > spec.latent_dim:
            raise ConfigError(
                f"{self.codes} codes are more than the {spec.latent_dim} latents",
                "lower loss.codes, or raise latent.dim",
            )
        return _CodeReader(self, math.prod(spec.shape))


class _CodeReader(nn.Module):
    """The loss with its network Q, whose parameters are trained in D's update.

    In G's update Q is frozen, like D: there the error teaches G alone to make the codes visible.
    """

    def __init__(self, loss: InfoGAN, inputs: int) -> None:
        super().__init__()
        self.loss = loss
        self.q = perceptron(inputs, 128, loss.codes)

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        return self.loss.discriminator(real, fake) + self._error(fake)

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return self.loss.generator(fake, real) + self._error(fake)

    def _error(self, fake: Scores) -> Tensor:
        codes = required(fake.latent, "the latents of fakes")[:, : self.loss.codes]
        return self.loss.weight * mse_loss(self.q(fake.images.flatten(1)), codes)
