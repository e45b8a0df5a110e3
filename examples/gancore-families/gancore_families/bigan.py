"""BiGAN: a generator with an encoder, and a discriminator that sees an image together with its latent."""

import math
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from gancore import Discriminator, Generated, Generator, Scores, Spec
from gancore_families.checks import required
from gancore_families.layers import perceptron
from gancore_plugins.losses.bce import NonSaturating


class Bidirectional(Generator):
    """Perceptrons from latent to image and from image to latent, Donahue et al. 2017 (arXiv:1605.09782)."""

    name = "bidirectional"
    width: int = Field(default=256, ge=1, le=4096, description="units of the two hidden layers of each network")

    def build(self, spec: Spec) -> nn.Module:
        return BidirectionalNetwork(spec, self.width, spec.latent_dim)


class BidirectionalNetwork(nn.Module):
    """Latent (N, Z) to images (N, *shape) with the extra `latent`; `encode` maps images to the extra `latent`."""

    def __init__(self, spec: Spec, width: int, code_width: int) -> None:
        super().__init__()
        pixels = math.prod(spec.shape)
        output = nn.Tanh() if spec.bounded else nn.Identity()
        self.decoder = perceptron(spec.latent_dim, width, width, pixels).extend([output, nn.Unflatten(1, spec.shape)])
        self.encoder = perceptron(pixels, width, width, code_width)

    def forward(self, latent: Tensor) -> Generated:
        return Generated(self.decoder(latent), {"latent": latent})

    def encode(self, images: Tensor) -> Mapping[str, Tensor]:
        return {"latent": self.encoder(images.flatten(1))}


class Joint(Discriminator):
    """Perceptron on an image and its latent, Donahue et al. 2017 (arXiv:1605.09782)."""

    name = "joint"
    width: int = Field(default=256, ge=1, le=4096, description="units of the two hidden layers")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of hidden units dropped in training")

    def build(self, spec: Spec) -> nn.Module:
        return _JointNetwork(math.prod(spec.shape) + spec.latent_dim, self)


class _JointNetwork(nn.Module):
    """Images (N, *shape) and their latents (N, Z) to logits (N, 1)."""

    extra_inputs = ("latent",)

    def __init__(self, inputs: int, settings: Joint) -> None:
        super().__init__()
        self.layers = perceptron(inputs, settings.width, settings.width, 1, dropout=settings.dropout)

    def forward(self, images: Tensor, latent: Tensor) -> Tensor:
        logits: Tensor = self.layers(torch.cat([images.flatten(1), latent], dim=1))
        return logits


class BiGAN(NonSaturating):
    """BCE, in which the encoder also makes D take its pairs for generated ones, Donahue et al. 2017 (arXiv:1605.09782).

    G and encoder minimize E s(-D(G(z), z)) + E s(D(x, E(x))). At the optimum the encoder inverts the generator.
    """

    name = "bigan"
    needs_real = True

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        logits = required(real, "the scores of real images").logits
        return super().generator(fake, real) + softplus(logits).mean()
