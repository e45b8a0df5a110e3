"""gancore as an arm: its own loop over a recipe, or over networks and data of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from time import perf_counter

from benchmarks.speed.timing import RunConfig, settle
from gancore import GAN, Catalog, ConfigLayer, resolve, train
from gancore.config.run import read_layers

FOR_EVER = "1000000 steps"


def assembled(recipe: str, folder: Path, training: Mapping[str, object] | None = None, device: str = "cpu") -> GAN:
    """A recipe with changes to its table `training`. Raises ConfigError for a key that is not there."""
    catalog = Catalog.installed()
    changes = ConfigLayer("benchmark", {"duration": FOR_EVER, "training": dict(training or {})})
    return GAN.assemble(resolve([*read_layers(recipe, catalog), changes], catalog), folder, device)


def begun(gan: GAN) -> RunConfig:
    """The loop, of which every round takes its steps. Raises RuntimeError where they are not made as was asked."""
    loop = train(gan)

    def run(steps: int) -> float:
        start = perf_counter()
        for step in islice(loop, steps):
            if step.note:
                raise RuntimeError(step.note)
        settle(gan.device)
        return perf_counter() - start

    return run
