"""Families of GANs as plugins: losses with networks, encoders, pictures as conditions, and regularizers."""

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

from gancore import Dataset, Discriminator, Generator, Loss, Regularizer, hookimpl
from gancore_families.bigan import Bidirectional, BiGAN, Joint
from gancore_families.consistency import LatentConsistencyD, LatentConsistencyG
from gancore_families.cyclegan import CycleGAN, Translators, Unpaired
from gancore_families.infogan import InfoGAN
from gancore_families.orthogonal import Orthogonal
from gancore_families.pix2pix import Edges, Patches, Pix2Pix, UNet
from gancore_families.scales import ScalesDiscriminator, ScalesGenerator
from gancore_families.toys import Spots, Waves
from gancore_families.vaegan import VAEGAN, Variational


@hookimpl
def gancore_generators() -> Iterable[type[Generator]]:
    return [Bidirectional, Variational, UNet, Translators, ScalesGenerator]


@hookimpl
def gancore_discriminators() -> Iterable[type[Discriminator]]:
    return [Joint, Patches, ScalesDiscriminator]


@hookimpl
def gancore_losses() -> Iterable[type[Loss]]:
    return [InfoGAN, BiGAN, VAEGAN, Pix2Pix, CycleGAN]


@hookimpl
def gancore_datasets() -> Iterable[type[Dataset]]:
    return [Edges, Unpaired, Spots, Waves]


@hookimpl
def gancore_regularizers() -> Iterable[type[Regularizer]]:
    return [LatentConsistencyD, LatentConsistencyG, Orthogonal]


@hookimpl
def gancore_recipes() -> Iterable[Traversable]:
    return [file for file in files(__name__).joinpath("recipes").iterdir() if file.name.endswith(".toml")]
