"""Tiny datasets, networks and a plugin for tests, which train in milliseconds."""

import functools
import math
from pathlib import Path

import torch
from pydantic import Field
from torch import nn
from torch.utils.data import TensorDataset

from gancore.catalog.catalog import Catalog, read_plugin
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import Dataset, Discriminator, Generator, Loss
from gancore.distributed.ranks import SINGLE_RANK
from gancore.hookspecs import hookimpl
from gancore.training.gan import GAN
from gancore.training.loop import train


class Noise(Dataset):
    """Random pixels or random vectors."""

    name = "noise"
    shape: tuple[int, ...] = Field(default=(1, 4, 4), description="(C, H, W) or (F,)")
    count: int = Field(default=10, ge=1, description="number of samples")
    labeled: bool = Field(default=False, description="give names to the labels")
    rare: bool = Field(default=False, description="give most samples the first label")
    mirrors: bool = Field(default=False, description="mirrored images are equally likely")

    def build(self, root: Path):
        generator = torch.Generator().manual_seed(1)
        size = (self.count, *self.shape)
        if len(self.shape) == 1:
            values = torch.randn(size, generator=generator)
        else:
            values = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
        labels = torch.arange(self.count) % (10 if self.rare else 3)
        dataset = TensorDataset(values, labels * (labels < 3))
        dataset.mirrors = self.mirrors
        if self.labeled:
            dataset.classes = ("zero", "one", "two")
        return dataset


class TinyGenerator(Generator):
    """One linear layer."""

    name = "tiny"
    width: int = Field(default=8, ge=1, le=64, description="hidden units")

    def build(self, spec):
        return Conditional(
            spec.classes(),
            nn.Linear(spec.latent_dim + (spec.classes() or 0), self.width),
            nn.ReLU(),
            nn.Linear(self.width, math.prod(spec.shape)),
            *([nn.Tanh()] if spec.bounded else []),
            nn.Unflatten(1, spec.shape),
        )


class Constant(Generator):
    """A collapsed generator: the same image for all noise."""

    name = "constant"

    def build(self, spec):
        return ConstantModule(spec.shape)


class ConstantModule(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.image = nn.Parameter(torch.full(shape, 0.1))

    def forward(self, latent):
        return self.image.expand(len(latent), *self.image.shape)


class Faithful(Generator):
    """Images that are the noise itself, scaled: as diverse as the noise."""

    name = "faithful"
    scale: float = Field(default=1.0, description="factor of the noise")
    offset: tuple[float, ...] = Field(default=(0.0,), description="added to the noise")

    def build(self, spec):
        return FaithfulModule(math.prod(spec.shape), spec.shape, self.scale, self.offset)


class FaithfulModule(nn.Module):
    def __init__(self, size, shape, scale, offset):
        super().__init__()
        self.scale, self.shape = nn.Parameter(torch.full((size,), scale)), shape
        self.register_buffer("offset", torch.tensor(offset))

    def forward(self, latent):
        return (latent[:, : len(self.scale)] * self.scale + self.offset).unflatten(1, self.shape)


class TinyDiscriminator(Discriminator):
    """Two linear layers, optionally with batch normalization or dropout between them."""

    name = "tiny"
    width: int = Field(default=8, ge=1, le=64, description="hidden units")
    batch_norm: bool = Field(default=False, description="normalize by batch statistics")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="fraction of units dropped")

    def build(self, spec):
        return Conditional(
            spec.classes(),
            nn.Linear(math.prod(spec.shape) + (spec.classes() or 0), self.width),
            *([nn.BatchNorm1d(self.width)] if self.batch_norm else []),
            nn.LeakyReLU(0.2),
            nn.Dropout(self.dropout),
            nn.Linear(self.width, 1),
        )


class Conditional(nn.Sequential):
    """Layers on flat input, with one-hot labels appended to it."""

    def __init__(self, num_classes, *layers):
        super().__init__(*layers)
        self.num_classes = num_classes

    def forward(self, batch, labels=None):
        batch = batch.flatten(1)
        if labels is not None:
            batch = torch.cat([batch, nn.functional.one_hot(labels, self.num_classes).float()], 1)
        for layer in self:
            batch = layer(batch)
        return batch


class Hinge(Loss):
    """Hinge loss, Lim and Ye 2017 (arXiv:1705.02894)."""

    name = "test-hinge"

    def discriminator(self, real, fake):
        return (1 - real.logits).relu().mean() + (1 + fake.logits).relu().mean()

    def generator(self, fake, real):
        return -fake.logits.mean()


class Worlds:
    """Plugin with the components above."""

    @staticmethod
    @hookimpl
    def gancore_generators():
        return [TinyGenerator, Constant, Faithful]

    @staticmethod
    @hookimpl
    def gancore_discriminators():
        return [TinyDiscriminator]

    @staticmethod
    @hookimpl
    def gancore_losses():
        return [Hinge]

    @staticmethod
    @hookimpl
    def gancore_datasets():
        return [Noise]


PARTS = {"generator": "tiny", "discriminator": "tiny", "loss": "bce", "dataset": "noise"}


def catalog():
    """Return a catalog of the built-ins and of the components above, as a third-party plugin."""
    return Catalog(_plugins())


@functools.cache
def _plugins():
    return *Catalog.installed().plugins, read_plugin(Worlds, "worlds", "gancore-worlds", "1.0")


RUNS = {
    "plain": {},
    "fresh fakes, two updates of d": {"training": {"fakes": "fresh", "discriminator_steps": 2}},
    "lazy r1": {"regularizers": {"r1": {"interval": 3}}},
    "average that ramps up": {"ema": {"half_life_kimg": 0.05, "ramp_up": 0.5}},
    "labels": {"dataset": {"name": "noise", "count": 22, "labeled": True}, "training": {"conditional": True}},
    "dropout": {"discriminator": {"name": "tiny", "dropout": 0.5}},
    "parameter groups": {
        "optimizer": {
            "generator": {"groups": [{"prefix": "0", "lr_factor": 0.1}, {"prefix": "0.bias", "betas": [0.5, 0.9]}]},
            "discriminator": {"groups": [{"prefix": "0", "lr": 1e-3}]},
        }
    },
    "frozen layers": {
        "discriminator": {"name": "tiny", "batch_norm": True},
        "training": {"freeze": ["generator.0", "discriminator.1"]},
    },
    "statistics": {"discriminator": {"name": "tiny", "batch_norm": True}, "training": {"clip_norm": 0.5}},
}
"""Configs that cover the options of a step, with a dataset whose last batch is short."""


def assembled(*layers, on="cpu", ranks=SINGLE_RANK, **changes):
    """Return the GAN of a small run, with further layers and keys, on a device."""
    merged = [
        ConfigLayer("test", layer) for layer in (PARTS, {"duration": "6 steps", "batch_size": 4}, *layers, changes)
    ]
    return GAN.assemble(resolve(merged, catalog()), Path(), on, ranks)


def weights(gan):
    """A copy of everything that training changes."""
    return {key: value.clone() for key, value in gan.state.tensors().items()}


def equal(first, second):
    """Return whether two dicts of tensors are equal, bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def trained(gan):
    """Train to the end; return all tensors and the records of the steps."""
    steps = list(train(gan))
    return weights(gan), steps


def dataset(count=64, shape=(1, 4, 4)):
    """Return a dataset of random images with one label."""
    return TensorDataset(torch.randint(0, 256, (count, *shape), dtype=torch.uint8), torch.zeros(count).long())
