"""Stacked MNIST: three digits as the colors of one image, so 1000 modes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gancore.contracts import Dataset, EvaluationProtocol
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.mnist import MNIST

if TYPE_CHECKING:
    from gancore_plugins.datasets.labeled import LabeledTensors


class StackedMNIST(Divided):
    """Random triples of MNIST's digits as red, green and blue: 1000 classes, Metz et al. 2017 (arXiv:1611.02163).

    Measured as Srivastava et al. 2017 (arXiv:1705.07761) do, with 26,000 samples; theirs are 128,000 triples, of the
    training and the test digits together. Here each part has triples of its own digits.
    """

    name = "stacked-mnist"
    evaluation = EvaluationProtocol(metrics=("modes-digits",), samples=26_000)
    count: int = Field(default=128_000, ge=1, le=2_000_000, description="triples")
    split: Literal["train", "test"] = Field(default="train", description="which of MNIST's sets the digits come from")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="of the triples")

    def prepare(self, root: Path) -> Iterator[float]:
        yield from MNIST(split=self.split).prepare(root)

    def build(self, root: Path) -> LabeledTensors:
        import torch

        from gancore_plugins.datasets.labeled import LabeledTensors

        digits, labels = MNIST(split=self.split).build(root).tensors
        dice = torch.Generator().manual_seed(self.seed)
        chosen = torch.randint(len(digits), (self.count, 3), generator=dice)
        images = digits.squeeze(1)[chosen]
        numbers = (labels[chosen] * torch.tensor([100, 10, 1])).sum(dim=1)
        return LabeledTensors(images, numbers, tuple(f"{number:03d}" for number in range(1000)))

    def teacher(self) -> Dataset:
        return MNIST(split="train")
