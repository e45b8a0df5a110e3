"""The built-in plugins, registered through the same entry point as any other plugin."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Regularizer
from gancore.exporters import Exporter
from gancore.hookspecs import hookimpl
from gancore.metrics import Extractor, Metric
from gancore.observers import JSONL, Observer
from gancore_plugins.augmentations.ada import ADA
from gancore_plugins.augmentations.diffaugment import DiffAugment
from gancore_plugins.datasets.array import Array
from gancore_plugins.datasets.cifar import CIFAR10
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.folder import Folder
from gancore_plugins.datasets.mixtures import Grid, Ring
from gancore_plugins.datasets.mnist import KMNIST, MNIST, FashionMNIST
from gancore_plugins.datasets.paired import Paired
from gancore_plugins.datasets.stacked_mnist import StackedMNIST
from gancore_plugins.datasets.table import Table
from gancore_plugins.exporters.hub import HubFolder
from gancore_plugins.exporters.onnx import ONNX
from gancore_plugins.exporters.pt2 import TorchProgram
from gancore_plugins.extractors.classifier import ClassifierExtractor
from gancore_plugins.extractors.inception import InceptionExtractor
from gancore_plugins.extractors.random import RandomExtractor
from gancore_plugins.extractors.self_supervised import SelfSupervisedExtractor
from gancore_plugins.losses.auxiliary import AuxiliaryClassifier
from gancore_plugins.losses.bce import Minimax, NonSaturating
from gancore_plugins.losses.least_squares import LeastSquares
from gancore_plugins.losses.linear import Hinge, Wasserstein
from gancore_plugins.losses.relativistic import Relativistic, RelativisticAverage
from gancore_plugins.metrics.agreement import ClassAgreement
from gancore_plugins.metrics.classes import ClassDivergence
from gancore_plugins.metrics.clipped import ClippedCoverage, ClippedDensity
from gancore_plugins.metrics.frechet import FrechetDistance
from gancore_plugins.metrics.frechet_infinity import FrechetDistanceAtInfinity
from gancore_plugins.metrics.inception_score import InceptionScore
from gancore_plugins.metrics.kernel import KernelDistance
from gancore_plugins.metrics.memorization import Memorization
from gancore_plugins.metrics.modes import Modes
from gancore_plugins.metrics.neighbors import Coverage, Density, Precision, Recall
from gancore_plugins.metrics.sliced import MongeDistance
from gancore_plugins.metrics.vendi import VendiScore
from gancore_plugins.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gancore_plugins.networks.light import LightDiscriminator, LightGenerator
from gancore_plugins.networks.mlp import MLPDiscriminator, MLPGenerator
from gancore_plugins.networks.packed import PackedDiscriminator
from gancore_plugins.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from gancore_plugins.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gancore_plugins.networks.style import StyleGenerator
from gancore_plugins.networks.style_discriminator import StyleDiscriminator
from gancore_plugins.networks.subpixel import SubpixelDiscriminator, SubpixelGenerator
from gancore_plugins.observers.tensorboard import TensorBoard
from gancore_plugins.regularizers.approximate import R1Approximate, R2Approximate
from gancore_plugins.regularizers.consistency import Consistency
from gancore_plugins.regularizers.gradients import R1, R2
from gancore_plugins.regularizers.lecam import LeCam
from gancore_plugins.regularizers.lipschitz import DRAGAN, GradientPenalty, WeightClipping
from gancore_plugins.regularizers.path_length import PathLength
from gancore_plugins.regularizers.reconstruction import Reconstruction


@hookimpl
def gancore_generators() -> Iterable[type[Generator]]:
    return [
        MLPGenerator,
        DCGANGenerator,
        ResNetGenerator,
        R3GANGenerator,
        SubpixelGenerator,
        LightGenerator,
        StyleGenerator,
    ]


@hookimpl
def gancore_discriminators() -> Iterable[type[Discriminator]]:
    return [
        MLPDiscriminator,
        DCGANDiscriminator,
        ResNetDiscriminator,
        R3GANDiscriminator,
        SubpixelDiscriminator,
        LightDiscriminator,
        StyleDiscriminator,
        PackedDiscriminator,
    ]


@hookimpl
def gancore_losses() -> Iterable[type[Loss]]:
    return [
        NonSaturating,
        Minimax,
        LeastSquares,
        Hinge,
        Wasserstein,
        Relativistic,
        RelativisticAverage,
        AuxiliaryClassifier,
    ]


@hookimpl
def gancore_datasets() -> Iterable[type[Dataset]]:
    return [MNIST, FashionMNIST, KMNIST, CIFAR10, Folder, Paired, Array, Table, Digits, StackedMNIST, Ring, Grid]


@hookimpl
def gancore_regularizers() -> Iterable[type[Regularizer]]:
    return [
        R1,
        R2,
        GradientPenalty,
        DRAGAN,
        WeightClipping,
        Reconstruction,
        PathLength,
        LeCam,
        Consistency,
        R1Approximate,
        R2Approximate,
    ]


@hookimpl
def gancore_augmentations() -> Iterable[type[Augmentation]]:
    return [DiffAugment, ADA]


@hookimpl
def gancore_metrics() -> Iterable[type[Metric]]:
    return [
        FrechetDistance,
        FrechetDistanceAtInfinity,
        KernelDistance,
        MongeDistance,
        InceptionScore,
        Precision,
        Recall,
        Density,
        Coverage,
        ClippedDensity,
        ClippedCoverage,
        VendiScore,
        ClassDivergence,
        ClassAgreement,
        Memorization,
        Modes,
    ]


@hookimpl
def gancore_extractors() -> Iterable[type[Extractor]]:
    return [ClassifierExtractor, SelfSupervisedExtractor, RandomExtractor, InceptionExtractor]


@hookimpl
def gancore_observers() -> Iterable[type[Observer]]:
    return [JSONL, TensorBoard]


@hookimpl
def gancore_exporters() -> Iterable[type[Exporter]]:
    return [HubFolder, TorchProgram, ONNX]


@hookimpl
def gancore_recipes() -> Iterable[Traversable]:
    return [file for file in files(__name__).joinpath("recipes").iterdir() if file.name.endswith(".toml")]
