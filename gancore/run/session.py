"""A session of a run: everything that one process needs to train and record it until it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from gancore.catalog.catalog import Catalog
from gancore.config.run import RunConfig
from gancore.evaluation.evaluator import Evaluator
from gancore.run.directory import RunDirectory
from gancore.run.interrupt import Interruption
from gancore.training.gan import GAN


@dataclass(frozen=True)
class Session:
    """A run that is assembled and ready to train. `evaluator` must be prepared; a run without metrics needs none."""

    config: RunConfig
    catalog: Catalog
    directory: RunDirectory
    gan: GAN
    evaluator: Evaluator | None = None
    interruption: Interruption = field(default_factory=Interruption)
