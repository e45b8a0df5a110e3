"""gancore: a plugin-based framework for training generative adversarial networks.

The names below are the public API. Each is imported when it is first touched, so `import gancore` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gancore.catalog import Catalog as Catalog
    from gancore.config import Options as Options
    from gancore.config import Run as Run
    from gancore.config import resolve as resolve
    from gancore.contracts import Component as Component
    from gancore.contracts import Dataset as Dataset
    from gancore.contracts import Discriminator as Discriminator
    from gancore.contracts import Generator as Generator
    from gancore.contracts import Loss as Loss
    from gancore.contracts import Output as Output
    from gancore.contracts import Scores as Scores
    from gancore.contracts import Shape as Shape
    from gancore.contracts import StatefulLoss as StatefulLoss
    from gancore.errors import CheckpointError as CheckpointError
    from gancore.errors import ConfigError as ConfigError
    from gancore.errors import DataError as DataError
    from gancore.errors import GancoreError as GancoreError
    from gancore.errors import PluginError as PluginError
    from gancore.errors import StorageError as StorageError
    from gancore.gan import GAN as GAN
    from gancore.hookspecs import hookimpl as hookimpl
    from gancore.layers import Layer as Layer
    from gancore.pictures import save_samples as save_samples
    from gancore.sampling import Trained as Trained
    from gancore.sampling import load as load
    from gancore.settings import Schedulable as Schedulable
    from gancore.settings import Schedule as Schedule
    from gancore.training import Step as Step
    from gancore.training import train as train

_HOMES = {
    "catalog": ["Catalog"],
    "config": ["Options", "Run", "resolve"],
    "contracts": [
        "Component",
        "Dataset",
        "Discriminator",
        "Generator",
        "Loss",
        "Output",
        "Scores",
        "Shape",
        "StatefulLoss",
    ],
    "errors": ["CheckpointError", "ConfigError", "DataError", "GancoreError", "PluginError", "StorageError"],
    "gan": ["GAN"],
    "hookspecs": ["hookimpl"],
    "layers": ["Layer"],
    "pictures": ["save_samples"],
    "sampling": ["Trained", "load"],
    "settings": ["Schedulable", "Schedule"],
    "training": ["Step", "train"],
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
