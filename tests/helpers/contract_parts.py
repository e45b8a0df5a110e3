"""Networks, losses and regularizers that use what the contract offers beyond images and logits."""

import math

import torch
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Generated, Loss, Regularizer, Spec
from gancore.training.gan import GAN
from gancore_plugins.losses.bce import NonSaturating
from helpers.tiny_components import Hinge, TinyDiscriminator, TinyGenerator, dataset

SHAPE = (1, 4, 4)
LATENT = 5


def small_gan(objective=None, *, generator=None, discriminator=None, data=None, parts=(), **options):
    """Return a small GAN of modules, with the same initial weights in each call."""
    torch.manual_seed(0)
    sgd = {"name": "SGD", "lr": 0.05, "momentum": 0.5}
    return GAN(
        generator() if generator else TinyGenerator().build(Spec(SHAPE, LATENT)),
        discriminator() if discriminator else TinyDiscriminator().build(Spec(SHAPE)),
        data if data is not None else dataset(10),
        objective or Hinge(),
        Options(
            **{
                "duration": "4 steps",
                "batch_size": 4,
                "latent": {"dim": LATENT},
                "optimizer": {"generator": sgd, "discriminator": sgd},
                **options,
            }
        ),
        "cpu",
        **dict(parts),
    )


class Scaled(Loss):
    """The loss bce of logits that a learned network changes, in the updates of both players."""

    name = "scaled"

    def build(self, spec):
        return ScaledAtWork()


class ScaledAtWork(nn.Module):
    """The module of Scaled."""

    def __init__(self):
        super().__init__()
        self.network = nn.Linear(1, 1)

    def discriminator(self, real, fake):
        """Return the loss of D, which depends on the parameters."""
        return (1 - self.network(real.logits)).relu().mean() + (1 + self.network(fake.logits)).relu().mean()

    def generator(self, fake, real):
        """Return the loss of G."""
        return -self.network(fake.logits).mean()


class Pulling(Regularizer):
    """A penalty of either player with a parameter of its own."""

    name = "pulling"

    def build(self, spec):
        return PullingAtWork()


class PullingAtWork(nn.Module):
    """The module of Pulling."""

    def __init__(self):
        super().__init__()
        self.target = nn.Parameter(torch.tensor(0.5))

    def penalty(self, real, fake):
        """Return the mean squared distance of the logits of fakes from the target."""
        return (fake.logits - self.target).square().mean()


class PullingG(Pulling):
    """The same in G's update."""

    name = "pulling-g"
    player = "generator"


class Encoding(nn.Module):
    """G of a BiGAN: its latent is an extra, and `encode` estimates it for real images (arXiv:1605.09782)."""

    def __init__(self, shape=SHAPE, latent=LATENT):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(latent, math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape))
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), latent))

    def forward(self, latent):
        """Return images, and their latents as an extra."""
        return Generated(self.decoder(latent), {"code": latent * self.encoder[1].bias.new_ones(())})

    def encode(self, images):
        """Return the estimated latents of images."""
        return {"code": self.encoder(images)}


class OfPairs(nn.Module):
    """D of a BiGAN: it scores images with their latents."""

    extra_inputs = ("code",)

    def __init__(self, shape=SHAPE, latent=LATENT):
        super().__init__()
        self.first, self.last = nn.Linear(math.prod(shape) + latent, 8), nn.Linear(8, 1)

    def forward(self, images, code):
        """Return logits of images and codes."""
        return self.last(nn.functional.softplus(self.first(torch.cat([images.flatten(1), code], 1))))


class Symmetric(NonSaturating):
    """The loss of a BiGAN: G and its encoder make real pairs look generated, and generated ones real."""

    name = "symmetric"
    needs_real = True

    def generator(self, fake, real):
        """Return the loss of G and of the encoder."""
        return nn.functional.softplus(-fake.logits).mean() + nn.functional.softplus(real.logits).mean()
