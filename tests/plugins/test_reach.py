"""How far the contract reaches: an auxiliary classifier and feature matching as plugins, with no change to the core."""

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gancore.catalog import Catalog, read_plugin
from gancore.config import resolve
from gancore.contracts import Discriminator, Loss, Output
from gancore.gan import GAN, draw_latent
from gancore.hookspecs import hookimpl
from gancore.layers import Layer
from gancore.training import train
from gancore_plugins.losses.bce import NonSaturating


class Auxiliary(Discriminator):
    """Says what an image shows beside whether it is real, Odena et al. 2017 (arXiv:1610.09585)."""

    name = "auxiliary"

    def build(self, shape, num_classes):
        return Body(shape, num_classes)


class Body(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 64), nn.LeakyReLU(0.2))
        self.logit, self.classes = nn.Linear(64, 1), nn.Linear(64, num_classes)

    def forward(self, images, labels):  # the labels are for others
        features = self.hidden(images)
        return Output(self.logit(features), features=(features,), heads={"classes": self.classes(features)})


class ACGAN(NonSaturating):
    """BCE, and both players want the class to be recognised, Odena et al. 2017 (arXiv:1610.09585)."""

    name = "acgan"

    def discriminator(self, real, fake):
        known = cross_entropy(real.heads["classes"], real.labels) + cross_entropy(fake.heads["classes"], fake.labels)
        return super().discriminator(real, fake) + known / 2

    def generator(self, fake, real):
        return super().generator(fake, real) + cross_entropy(fake.heads["classes"], fake.labels)


class FeatureMatching(NonSaturating):
    """G wants D's features to have the mean of those of real images, Salimans et al. 2016 (arXiv:1606.03498)."""

    name = "feature-matching"
    needs_real = True

    def generator(self, fake, real):
        return (fake.features[0].mean(dim=0) - real.features[0].mean(dim=0)).square().sum()


class Reach:
    """A third party's plugin."""

    @staticmethod
    @hookimpl
    def gancore_discriminators():
        return [Auxiliary]

    @staticmethod
    @hookimpl
    def gancore_losses() -> list[type[Loss]]:
        return [ACGAN, FeatureMatching]


CATALOG = Catalog([*Catalog.installed().plugins, read_plugin(Reach, "reach", "gancore-reach", "1.0")])


def run(loss):
    return GAN.assemble(
        resolve(
            [
                Layer("parts", {"generator": "mlp", "discriminator": "auxiliary", "loss": loss, "dataset": "digits"}),
                Layer("small", {"duration": "600 steps", "training": {"conditional": True}, "latent": {"dim": 16}}),
                Layer("quick", {"optimizer": {"generator": {"lr": 3e-3}, "discriminator": {"lr": 1e-3}}}),
                Layer("steady", {"generator": {"normalization": "batch"}}),
            ],
            CATALOG,
        ),
        Path(),
        "cpu",
    )


def test_both_players_learn_the_classes_of_acgan():
    gan = run("acgan")
    for _ in train(gan):
        pass
    labels = torch.arange(200) % 10
    with torch.no_grad():
        images = gan.generator(gan.latent(200), labels)
        read = gan.discriminator(images, labels).heads["classes"].argmax(dim=1)
    assert (read == labels).double().mean() > 0.9  # one in ten would be chance


def test_feature_matching_brings_the_means_together():
    gan = run("feature-matching")
    labels = torch.arange(1000) % 10
    real = torch.stack([image for image, _ in gan.feed.dataset]) / 127.5 - 1

    @torch.no_grad()
    def distance():
        fake = gan.generator(draw_latent(gan.options.latent, 1000, torch.Generator().manual_seed(0)), labels)
        return (fake.mean(dim=0) - real.mean(dim=0)).square().mean().item()

    before = distance()
    assert [step.generator_loss.isfinite() for step in train(gan)][-1]
    assert distance() < 0.4 * before
