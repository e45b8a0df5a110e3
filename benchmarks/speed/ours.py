"""gancore as an arm: its loop over a recipe, or over given networks and data."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.speed.timing import Run, synchronize
from gancore import GAN, Catalog, ConfigLayer, resolve, train
from gancore.config.run import read_layers

ENDLESS = "1000000 steps"


def assemble(recipe: str, folder: Path, training: Mapping[str, object] | None = None, device: str = "cpu") -> GAN:
    """Assemble a recipe with changes to its table `training`. Raises ConfigError for an unknown key.

    It has as many threads as torch has, as the other arms do.
    """
    catalog = Catalog.installed()
    changes = ConfigLayer("benchmark", {"duration": ENDLESS, "training": like_others(training or {})})
    return GAN.assemble(resolve([*read_layers(recipe, catalog), changes], catalog), folder, device)


def like_others(training: Mapping[str, object]) -> dict[str, object]:
    """Return settings of the table `training` with the number of threads of all arms, in place of a choice."""
    return {"threads": torch.get_num_threads(), **training}


def start(gan: GAN) -> Run:
    """Return a function that makes steps of one run. It raises RuntimeError if gancore falls back to other steps."""
    loop = train(gan)

    def run(steps: int) -> float:
        begin = perf_counter()
        for step in islice(loop, steps):
            if step.note:
                raise RuntimeError(step.note)
        synchronize(gan.device)
        return perf_counter() - begin

    return run
