"""The arms that are compared on each recipe: different ways to make the same steps.

An arm imports what it needs when it starts, so that its peak of memory, measured in a process of its own, does not
include the imports of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.speed.timing import Run, Start

if TYPE_CHECKING:
    from benchmarks.speed.byhand import Precision
    from benchmarks.speed.scripts import Loader

OURS, OURS_BF16, SCRIPT = "gancore", "gancore, bf16", "plain script"
FEWER_STEPS = {"vanilla": 1, "mnist": 2, "dcgan": 8}
"""The recipes that are compared, with the factor by which a round has fewer steps."""
ON_CUDA: Mapping[str, Mapping[str, object]] = {
    OURS: {},
    "gancore, tf32": {"precision": "tf32"},
    OURS_BF16: {"precision": "bf16"},
    "gancore, CUDA graph": {"cuda_graph": True},
    "gancore, bf16, CUDA graph": {"precision": "bf16", "cuda_graph": True},
}
"""Arms of gancore on a GPU, with their settings in the table `training`."""


def arms(recipe: str, folder: Path, work: Path, device: str = "cpu") -> dict[str, Start]:
    """Return every way to make the steps of a recipe, by name; on a GPU gancore and the plain script only."""
    scripts: dict[str, Start] = {
        SCRIPT: partial(_script, folder, "loader", device),
        f"{SCRIPT}, data in memory": partial(_script, folder, "memory", device),
    }
    if device != "cpu":
        gancore = {name: partial(_ours, recipe, folder, settings, device) for name, settings in ON_CUDA.items()}
        return {**(scripts if recipe == "vanilla" else {}), **gancore}
    ours: dict[str, Start] = {
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
        **scripts,
        "PyTorch Lightning": partial(_lightning, folder, "loader"),
        "PyTorch Lightning, data in memory": partial(_lightning, folder, "memory"),
        "torchgan": partial(_torchgan, folder, "loader", work),
        "torchgan, data in memory": partial(_torchgan, folder, "memory", work),
        **ours,
        "by hand": partial(hand, "float32"),
        "by hand, bf16 with float32 masters": partial(hand, "masters"),
        "by hand, bf16 by autocast": partial(hand, "autocast"),
        "matrix products only": partial(_floor, folder, "float32"),
        "matrix products only, bf16": partial(_floor, folder, "bfloat16"),
    }


Source = Literal["loader", "memory"]


def _loader(folder: Path, source: Source) -> Loader:
    from benchmarks.speed import scripts

    return scripts.original_loader(folder) if source == "loader" else scripts.InMemory(folder)


def _script(folder: Path, source: Source, device: str) -> Run:
    import torch

    from benchmarks.speed import scripts

    loader, target = _loader(folder, source), torch.device(device)
    return scripts.start(loader if device == "cpu" else scripts.Moved(loader, target), target)


def _lightning(folder: Path, source: Source) -> Run:
    from benchmarks.speed import frameworks

    return frameworks.lightning(_loader(folder, source))


def _torchgan(folder: Path, source: Source, work: Path) -> Run:
    from benchmarks.speed import frameworks

    return frameworks.torchgan(_loader(folder, source), work)


def _ours(recipe: str, folder: Path, training: Mapping[str, object], device: str = "cpu") -> Run:
    from benchmarks.speed import ours

    return ours.start(ours.assemble(recipe, folder, training, device))


def _by_hand(recipe: str, folder: Path, precision: Precision, *, channels_last: bool = False) -> Run:
    from benchmarks.speed import byhand, ours
    from gancore.data.items import read_items

    gan = ours.assemble(recipe, folder)
    images, _ = read_items(gan.feed.dataset)
    batches = byhand.shuffled(byhand.for_networks(images, precision), gan.options.batch_size)
    loop = byhand.Loop(
        gan.generator,
        gan.discriminator,
        batches,
        byhand.PLANS[recipe],
        precision=precision,
        channels_last=channels_last,
    )
    return loop.run


def _floor(folder: Path, dtype: Literal["float32", "bfloat16"]) -> Run:
    import torch

    from benchmarks.speed import floor, ours

    gan = ours.assemble("vanilla", folder)
    return floor.start(gan.generator, gan.discriminator, gan.options.batch_size, getattr(torch, dtype))
