"""The built-in plugins. They enter by the same entry point as anyone's."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

from gancore.contracts import Dataset, Discriminator, Generator, Loss
from gancore.hookspecs import hookimpl
from gancore_plugins.bce import Minimax, NonSaturating
from gancore_plugins.digits import Digits
from gancore_plugins.mlp import MLPDiscriminator, MLPGenerator
from gancore_plugins.mnist import MNIST


@hookimpl
def gancore_generators() -> Iterable[type[Generator]]:
    return [MLPGenerator]


@hookimpl
def gancore_discriminators() -> Iterable[type[Discriminator]]:
    return [MLPDiscriminator]


@hookimpl
def gancore_losses() -> Iterable[type[Loss]]:
    return [NonSaturating, Minimax]


@hookimpl
def gancore_datasets() -> Iterable[type[Dataset]]:
    return [MNIST, Digits]


@hookimpl
def gancore_recipes() -> Iterable[Traversable]:
    return [file for file in files(__name__).joinpath("recipes").iterdir() if file.name.endswith(".toml")]
