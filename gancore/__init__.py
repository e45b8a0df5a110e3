"""gancore: a plugin-based framework for training generative adversarial networks.

    import gancore

    run = gancore.Run("digits", out="runs/a", steps=200)
    for record in run.train(progress=True):
        ...

The names below are the public API. Each is imported when it is first used, so `import gancore` is fast.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog as Catalog
    from gancore.component import Component as Component
    from gancore.config.layers import ConfigLayer as ConfigLayer
    from gancore.config.run import Options as Options
    from gancore.config.run import RunConfig as RunConfig
    from gancore.config.run import resolve as resolve
    from gancore.contracts import Augment as Augment
    from gancore.contracts import Augmentation as Augmentation
    from gancore.contracts import Critic as Critic
    from gancore.contracts import Dataset as Dataset
    from gancore.contracts import Discriminator as Discriminator
    from gancore.contracts import EvaluationProtocol as EvaluationProtocol
    from gancore.contracts import Generator as Generator
    from gancore.contracts import Loss as Loss
    from gancore.contracts import Mixture as Mixture
    from gancore.contracts import Output as Output
    from gancore.contracts import Penalty as Penalty
    from gancore.contracts import Regularizer as Regularizer
    from gancore.contracts import Scores as Scores
    from gancore.contracts import Shape as Shape
    from gancore.contracts import StatefulLoss as StatefulLoss
    from gancore.contracts import TrainingTime as TrainingTime
    from gancore.contracts import value_at as value_at
    from gancore.data.read_images import read_images as read_images
    from gancore.errors import CheckpointError as CheckpointError
    from gancore.errors import ConfigError as ConfigError
    from gancore.errors import DataError as DataError
    from gancore.errors import GancoreError as GancoreError
    from gancore.errors import InUseError as InUseError
    from gancore.errors import NumericsError as NumericsError
    from gancore.errors import PluginError as PluginError
    from gancore.errors import StorageError as StorageError
    from gancore.errors import WorkerError as WorkerError
    from gancore.evaluation.evaluator import Evaluation as Evaluation
    from gancore.evaluation.evaluator import Evaluator as Evaluator
    from gancore.evaluation.evaluator import Result as Result
    from gancore.evaluation.sources import ReferenceImages as ReferenceImages
    from gancore.evaluation.train_extractor import EvaluationPaths as EvaluationPaths
    from gancore.hookspecs import hookimpl as hookimpl
    from gancore.metrics import Extractor as Extractor
    from gancore.metrics import Features as Features
    from gancore.metrics import LearnedExtractor as LearnedExtractor
    from gancore.metrics import Measurement as Measurement
    from gancore.metrics import Metric as Metric
    from gancore.metrics import MetricInputs as MetricInputs
    from gancore.metrics import Samples as Samples
    from gancore.observers import Observer as Observer
    from gancore.observers import RunInfo as RunInfo
    from gancore.observers import Writer as Writer
    from gancore.run.recorder import Record as Record
    from gancore.run.run import Run as Run
    from gancore.run.run import open as open  # noqa: A004  # gancore.open
    from gancore.sampling.grid import save_samples as save_samples
    from gancore.sampling.load import TrainedGenerator as TrainedGenerator
    from gancore.sampling.load import load as load
    from gancore.settings import Schedulable as Schedulable
    from gancore.settings import Schedule as Schedule
    from gancore.training.gan import GAN as GAN
    from gancore.training.loop import Step as Step
    from gancore.training.loop import train as train

_HOMES = {
    "catalog.catalog": ["Catalog"],
    "component": ["Component"],
    "config.run": ["Options", "RunConfig", "resolve"],
    "contracts": [
        "Augment",
        "Augmentation",
        "Critic",
        "Dataset",
        "Discriminator",
        "EvaluationProtocol",
        "Generator",
        "Loss",
        "Mixture",
        "TrainingTime",
        "Output",
        "Penalty",
        "Regularizer",
        "Scores",
        "Shape",
        "StatefulLoss",
        "value_at",
    ],
    "errors": [
        "CheckpointError",
        "ConfigError",
        "DataError",
        "GancoreError",
        "InUseError",
        "NumericsError",
        "PluginError",
        "StorageError",
        "WorkerError",
    ],
    "evaluation.evaluator": ["Evaluation", "Evaluator", "Result"],
    "training.gan": ["GAN"],
    "hookspecs": ["hookimpl"],
    "data.read_images": ["read_images"],
    "config.layers": ["ConfigLayer"],
    "evaluation.train_extractor": ["EvaluationPaths"],
    "metrics": ["MetricInputs", "Extractor", "Features", "LearnedExtractor", "Measurement", "Metric", "Samples"],
    "observers": ["Observer", "RunInfo", "Writer"],
    "run.recorder": ["Record"],
    "run.run": ["Run", "open"],
    "sampling.grid": ["save_samples"],
    "sampling.load": ["TrainedGenerator", "load"],
    "settings": ["Schedulable", "Schedule"],
    "evaluation.sources": ["ReferenceImages"],
    "training.loop": ["Step", "train"],
}
_HOME = {name: f"gancore.{module}" for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)
__version__ = version("gancore")


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'gancore' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
