"""Data published in the form of MNIST: other things to draw, 28x28 gray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gancore.contracts import EvaluationProtocol
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.mnist import METRICS, prepare_split, read_split

if TYPE_CHECKING:
    from gancore_plugins.datasets.labeled import LabeledTensors


class FashionMNIST(Divided):
    """Articles of clothing, 28x28 gray, 60000 to train and 10000 to test, Xiao et al. 2017 (arXiv:1708.07747).

    Shoes point to the left, so a mirrored image is not as likely as the image.
    """

    name = "fashion-mnist"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.88)
    split: Literal["train", "test"] = Field(default="train", description="which of the published sets to use")

    def prepare(self, root: Path) -> Iterator[float]:
        yield from prepare_split(root, "FashionMNIST", self.split)

    def build(self, root: Path) -> LabeledTensors:
        articles = (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        )
        return read_split(root, "FashionMNIST", self.split, articles)


class KMNIST(Divided):
    """Cursive Japanese, 28x28 gray, 60000 to train and 10000 to test, Clanuwat et al. 2018 (arXiv:1812.01718)."""

    name = "kmnist"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.93)
    split: Literal["train", "test"] = Field(default="train", description="which of the published sets to use")

    def prepare(self, root: Path) -> Iterator[float]:
        yield from prepare_split(root, "KMNIST", self.split)

    def build(self, root: Path) -> LabeledTensors:
        characters = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
        return read_split(root, "KMNIST", self.split, characters)
