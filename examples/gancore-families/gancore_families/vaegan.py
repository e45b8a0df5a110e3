"""VAE-GAN: the decoder of a variational autoencoder, whose reconstructions D scores."""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from gancore import Generator, Scores, Spec
from gancore_families.bigan import BidirectionalNetwork
from gancore_families.checks import required
from gancore_plugins.losses.bce import NonSaturating


class Variational(Generator):
    """Perceptrons from latent to image, and from image to a normal distribution of latents."""

    name = "variational"
    width: int = Field(default=256, ge=1, le=4096, description="units of the two hidden layers of each network")

    def build(self, spec: Spec) -> nn.Module:
        return _VariationalNetwork(spec, self.width, 2 * spec.latent_dim)


class _VariationalNetwork(BidirectionalNetwork):
    """`encode` returns the extras `mean` and `log_variance`, each (N, Z)."""

    def encode(self, images: Tensor) -> Mapping[str, Tensor]:
        mean, log_variance = self.encoder(images.flatten(1)).chunk(2, dim=1)
        return {"mean": mean, "log_variance": log_variance}


class VAEGAN(NonSaturating):
    """BCE, in G's loss for reconstructions too, and the two terms of a VAE, Larsen et al. 2016 (arXiv:1512.09300).

    The reconstruction error is that of pixels; in the paper it is that of D's features.
    """

    name = "vae-gan"
    needs_real = True
    reconstruction: float = Field(default=10.0, ge=0, description="weight of the mean squared error of reconstructions")
    prior: float = Field(default=0.01, ge=0, description="weight of the divergence of the codes from the normal prior")

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        real = required(real, "the scores of real images")
        code = fake.players.encode(real.images, real.condition)
        mean, log_variance = code["mean"], code["log_variance"]
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        rebuilt = fake.players.generate(latent, real.condition)
        scores = fake.players.score(rebuilt.images, real.condition)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
        error = mse_loss(rebuilt.images, real.images)
        adversarial = super().generator(fake, real) + softplus(-scores.logits).mean()
        return adversarial + self.reconstruction * error + self.prior * divergence
