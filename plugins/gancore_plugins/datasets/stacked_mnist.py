"""Stacked MNIST: three digits as the color channels of one image, so 1000 modes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from gancore.contracts import Dataset, EvaluationProtocol
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.labeled import LabeledTensors
from gancore_plugins.datasets.mnist import MNIST


class StackedMNIST(Divided):
    """Random triples of MNIST's digits as red, green and blue: 1000 classes, Metz et al. 2017 (arXiv:1611.02163).

    Evaluated with 26,000 samples, as in Srivastava et al. 2017 (arXiv:1705.07761). Their 128,000 triples mix training
    and test digits; here the triples of each part come from the digits of that part.
    """

    name = "stacked-mnist"
    evaluation = EvaluationProtocol(metrics=("modes-classifier",), samples=26_000)
    count: int = Field(default=128_000, ge=1, le=2_000_000, description="number of triples")
    split: Literal["train", "test"] = Field(default="train", description="which of MNIST's sets the digits come from")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="random seed of the triples")

    def prepare(self, root: Path) -> Iterator[float]:
        yield from MNIST(split=self.split).prepare(root)

    def build(self, root: Path) -> LabeledTensors:
        digits, labels = MNIST(split=self.split).build(root).tensors
        rng = torch.Generator().manual_seed(self.seed)
        chosen = torch.randint(len(digits), (self.count, 3), generator=rng)
        images = digits.squeeze(1)[chosen]  # (count, 3, 28, 28)
        numbers = (labels[chosen] * torch.tensor([100, 10, 1])).sum(dim=1)  # (count,) in 0..999
        return LabeledTensors(images, numbers, tuple(f"{number:03d}" for number in range(1000)))

    def teacher(self) -> Dataset:
        return MNIST(split="train")
