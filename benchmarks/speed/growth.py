"""How the time of an image grows: with the batch, the networks, the images and the dataset.

The networks are those of the recipe `vanilla`, the images noise. One thing is varied at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.speed import byhand, ours
from benchmarks.speed.races import OURS
from benchmarks.speed.timing import Begin, RunConfig, Series, in_turns
from gancore import GAN, Options
from gancore_plugins.losses.bce import NonSaturating
from gancore_plugins.networks.mlp import MLPDiscriminator, MLPGenerator


@dataclass(frozen=True)
class World:
    """Square images of `side` pixels, and networks that are so many times as wide as those of `vanilla`."""

    batch: int = 64
    width: float = 1.0
    side: int = 28
    size: int = 15_000

    def networks(self) -> tuple[nn.Module, nn.Module]:
        narrow, wide = (round(self.width * units) for units in (256, 512))
        shape = (1, self.side, self.side)
        generator = MLPGenerator(widths=(narrow, wide)).build(shape, 100, None)
        return generator, MLPDiscriminator(widths=(wide, narrow)).build(shape, None)

    def data(self) -> TensorDataset:
        images = torch.randint(0, 256, (self.size, 1, self.side, self.side), dtype=torch.uint8)
        return TensorDataset(images, torch.zeros(self.size, dtype=torch.long))

    def gan(self, dataset: Dataset[object], **training: object) -> GAN:
        options = Options.model_validate({"batch_size": self.batch, "duration": ours.FOR_EVER, "training": training})
        return GAN(*self.networks(), dataset, NonSaturating().build(), options, "cpu")


VARIED: dict[str, list[World]] = {
    "batch size": [World(batch=each) for each in (16, 64, 256, 1024)],
    "width": [World(width=each) for each in (0.5, 1.0, 2.0)],
    "side": [World(side=each) for each in (14, 28, 56)],
    "dataset size": [World(size=each) for each in (15_000, 60_000, 120_000)],
}
_FIELDS = {"batch size": "batch", "width": "width", "side": "side", "dataset size": "size"}
SECTION = "growth"


def measured(rounds: int, steps: int) -> Iterator[Series]:
    """Both loops in every world, with half as many images in a round as a race has."""
    for what, worlds in VARIED.items():
        for world in worlds:
            arms: dict[str, Begin] = {OURS: partial(_ours, world), "by hand": partial(_by_hand, world)}
            yield from in_turns(
                f"{SECTION}: {what}",
                arms,
                rounds=rounds,
                steps=max(1, steps * 32 // world.batch),
                batch=world.batch,
                value=getattr(world, _FIELDS[what]),
            )


def _ours(world: World) -> RunConfig:
    return ours.begun(world.gan(world.data()))


def _by_hand(world: World) -> RunConfig:
    images, _ = world.data().tensors
    batches = byhand.shuffled(byhand.as_seen(images), world.batch)
    return byhand.Loop(*world.networks(), batches, byhand.Plan(batch=world.batch)).run
