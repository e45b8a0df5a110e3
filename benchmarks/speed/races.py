"""The races: which arms make the same steps, for each recipe. An arm imports what it needs when it begins.

So the peak of an arm's memory, measured in a process of its own, is not that of all others' imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.speed.timing import Begin, RunConfig

if TYPE_CHECKING:
    from benchmarks.speed.byhand import Precision

OURS, OURS_BF16, SCRIPT = "gancore", "gancore, bf16", "plain script"
SHARES = {"vanilla": 1, "mnist": 2, "dcgan": 8}
"""The recipes that are raced, and how many times fewer steps each takes in a round."""


def arms(recipe: str, folder: Path, work: Path) -> dict[str, Begin]:
    """Every way to make the steps of a recipe, by its name."""
    ours: dict[str, Begin] = {
        OURS: partial(_ours, recipe, folder, {}),
        OURS_BF16: partial(_ours, recipe, folder, {"precision": "bf16"}),
    }
    hand = partial(_by_hand, recipe, folder)
    if recipe != "vanilla":
        return {
            **ours,
            "by hand": partial(hand, "float32", channels_last=False),
            "by hand, channels last": partial(hand, "float32", channels_last=True),
            "by hand, channels last, bf16 by autocast": partial(hand, "autocast", channels_last=True),
        }
    return {
        SCRIPT: partial(_script, folder, "loader"),
        f"{SCRIPT}, data in memory": partial(_script, folder, "memory"),
        "PyTorch Lightning": partial(_lightning, folder, "loader"),
        "PyTorch Lightning, data in memory": partial(_lightning, folder, "memory"),
        "torchgan": partial(_torchgan, folder, "loader", work),
        "torchgan, data in memory": partial(_torchgan, folder, "memory", work),
        **ours,
        "by hand": partial(hand, "float32"),
        "by hand, bf16 with float32 masters": partial(hand, "masters"),
        "by hand, bf16 by autocast": partial(hand, "autocast"),
        "matrix products alone": partial(_floor, folder, "float32"),
        "matrix products alone, bf16": partial(_floor, folder, "bfloat16"),
    }


Source = Literal["loader", "memory"]


def _script(folder: Path, source: Source) -> RunConfig:
    from benchmarks.speed import scripts

    return scripts.begun(scripts.as_it_is(folder) if source == "loader" else scripts.InMemory(folder))


def _lightning(folder: Path, source: Source) -> RunConfig:
    from benchmarks.speed import frameworks, scripts

    return frameworks.lightning(scripts.as_it_is(folder) if source == "loader" else scripts.InMemory(folder))


def _torchgan(folder: Path, source: Source, work: Path) -> RunConfig:
    from benchmarks.speed import frameworks, scripts

    return frameworks.torchgan(scripts.as_it_is(folder) if source == "loader" else scripts.InMemory(folder), work)


def _ours(recipe: str, folder: Path, training: Mapping[str, object]) -> RunConfig:
    from benchmarks.speed import ours

    return ours.begun(ours.assembled(recipe, folder, training))


def _by_hand(recipe: str, folder: Path, precision: Precision, *, channels_last: bool = False) -> RunConfig:
    from benchmarks.speed import byhand, ours
    from gancore.data.items import read_items

    gan = ours.assembled(recipe, folder)
    images, _ = read_items(gan.feed.dataset)
    batches = byhand.shuffled(byhand.as_seen(images, precision), gan.options.batch_size)
    loop = byhand.Loop(
        gan.generator,
        gan.discriminator,
        batches,
        byhand.PLANS[recipe],
        precision=precision,
        channels_last=channels_last,
    )
    return loop.run


def _floor(folder: Path, dtype: Literal["float32", "bfloat16"]) -> RunConfig:
    import torch

    from benchmarks.speed import floor, ours

    gan = ours.assembled("vanilla", folder)
    return floor.begun(gan.generator, gan.discriminator, gan.options.batch_size, getattr(torch, dtype))
