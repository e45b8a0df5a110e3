"""How the time per image grows with the batch, the networks, the images and the dataset, and what it never falls below.

The networks are those of the recipe `vanilla`, the images are noise. One setting is varied at a time. With tiny
networks nearly all of a step is its fixed cost: Python, and the calls of operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.speed import byhand, ours
from benchmarks.speed.comparisons import OURS
from benchmarks.speed.timing import Run, Series, Start, interleave
from gancore import GAN, Options, Spec
from gancore_plugins.losses.bce import NonSaturating
from gancore_plugins.networks.mlp import MLPDiscriminator, MLPGenerator


@dataclass(frozen=True)
class Setup:
    """Square images of `side` pixels, and networks `width` times as wide as those of `vanilla`."""

    batch: int = 64
    width: float = 1.0
    side: int = 28
    size: int = 15_000

    def networks(self) -> tuple[nn.Module, nn.Module]:
        narrow, wide = (round(self.width * units) for units in (256, 512))
        spec = Spec((1, self.side, self.side), latent_dim=100)
        return MLPGenerator(widths=(narrow, wide)).build(spec), MLPDiscriminator(widths=(wide, narrow)).build(spec)

    def data(self) -> TensorDataset:
        images = torch.randint(0, 256, (self.size, 1, self.side, self.side), dtype=torch.uint8)
        return TensorDataset(images, torch.zeros(self.size, dtype=torch.long))

    def gan(self, dataset: Dataset[object], **training: object) -> GAN:
        options = Options.model_validate(
            {"batch_size": self.batch, "duration": ours.ENDLESS, "training": ours.like_others(training)}
        )
        return GAN(*self.networks(), dataset, NonSaturating(), options, "cpu")


VARIED: dict[str, list[Setup]] = {
    "batch size": [Setup(batch=each) for each in (16, 64, 256, 1024)],
    "width": [Setup(width=each) for each in (0.5, 1.0, 2.0)],
    "side": [Setup(side=each) for each in (14, 28, 56)],
    "dataset size": [Setup(size=each) for each in (15_000, 60_000, 120_000)],
}
_FIELDS = {"batch size": "batch", "width": "width", "side": "side", "dataset size": "size"}
SECTION = "growth"
TINY = Setup(batch=16, width=1 / 32, side=8, size=6000)
FIXED = "fixed"
"""Section of the fixed cost of a step."""


def measure(rounds: int, steps: int) -> Iterator[Series]:
    """Time both loops in every setup, with half the images per round of a comparison."""
    for what, setups in VARIED.items():
        for setup in setups:
            yield from interleave(
                f"{SECTION}: {what}",
                _arms(setup),
                rounds=rounds,
                steps=max(1, steps * 32 // setup.batch),
                batch=setup.batch,
                value=getattr(setup, _FIELDS[what]),
            )


def measure_fixed(rounds: int, steps: int) -> Iterator[Series]:
    """Time both loops with tiny networks."""
    yield from interleave(FIXED, _arms(TINY), rounds=rounds, steps=4 * steps, batch=TINY.batch)


def _arms(setup: Setup) -> dict[str, Start]:
    return {OURS: partial(_ours, setup), "by hand": partial(_by_hand, setup)}


def _ours(setup: Setup) -> Run:
    return ours.start(setup.gan(setup.data()))


def _by_hand(setup: Setup) -> Run:
    images, _ = setup.data().tensors
    batches = byhand.shuffled(byhand.for_networks(images), setup.batch)
    return byhand.Loop(*setup.networks(), batches, byhand.Plan(batch=setup.batch)).run
