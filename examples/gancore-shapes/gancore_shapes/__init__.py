"""A plugin with a component of every kind: discs, squares and crosses, and an ACGAN that draws them by class."""

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

from gancore import (
    Augmentation,
    Dataset,
    Discriminator,
    Exporter,
    Extractor,
    Generator,
    Loss,
    Metric,
    Observer,
    Regularizer,
    hookimpl,
)
from gancore_shapes.anchors import Anchors
from gancore_shapes.arrays import NumPyArrays
from gancore_shapes.auxiliary import ACGAN, Auxiliary, FeatureMatching
from gancore_shapes.broadcast import Broadcast
from gancore_shapes.dataset import Shapes
from gancore_shapes.film import Film
from gancore_shapes.noise import InstanceNoise
from gancore_shapes.sliced import SlicedWasserstein
from gancore_shapes.spectrum import Spectrum


@hookimpl
def gancore_generators() -> Iterable[type[Generator]]:
    return [Broadcast]


@hookimpl
def gancore_discriminators() -> Iterable[type[Discriminator]]:
    return [Auxiliary]


@hookimpl
def gancore_losses() -> Iterable[type[Loss]]:
    return [ACGAN, FeatureMatching]


@hookimpl
def gancore_datasets() -> Iterable[type[Dataset]]:
    return [Shapes]


@hookimpl
def gancore_regularizers() -> Iterable[type[Regularizer]]:
    return [Anchors]


@hookimpl
def gancore_augmentations() -> Iterable[type[Augmentation]]:
    return [InstanceNoise]


@hookimpl
def gancore_metrics() -> Iterable[type[Metric]]:
    return [SlicedWasserstein]


@hookimpl
def gancore_extractors() -> Iterable[type[Extractor]]:
    return [Spectrum]


@hookimpl
def gancore_exporters() -> Iterable[type[Exporter]]:
    return [NumPyArrays]


@hookimpl
def gancore_observers() -> Iterable[type[Observer]]:
    return [Film]


@hookimpl
def gancore_recipes() -> Iterable[Traversable]:
    return [file for file in files(__name__).joinpath("recipes").iterdir() if file.name.endswith(".toml")]
