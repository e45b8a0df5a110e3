"""The 8x8 digits that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from gancore.contracts import EvaluationProtocol
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.labeled import LabeledTensors


class Digits(Divided):
    """Handwritten digits, 8x8 in 17 grays, 1797 in all, no download, Alpaydin and Kaynak 1998.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998;
    scikit-learn's copy, which is the test set of the original.
    """

    name = "digits"
    evaluation = EvaluationProtocol(
        metrics=(
            "fd-digits",
            "kid-digits",
            "is-digits",
            "precision-digits",
            "recall-digits",
            "density-digits",
            "coverage-digits",
            "class-kl-digits",
        ),
        samples=1797,
        gate=0.97,
    )
    split: Literal["all", "train", "test"] = Field(
        default="all", description="all images; train: all but every fifth; test: every fifth"
    )

    def build(self, root: Path) -> LabeledTensors:
        from sklearn.datasets import load_digits  # slow to import

        values, labels = load_digits(return_X_y=True)  # (1797, 64) in 0..16, (1797,)
        images = (torch.from_numpy(values) * (255 / 16)).round().to(torch.uint8).reshape(-1, 1, 8, 8)
        held_out = torch.arange(len(images)) % 5 == 4
        chosen = {"all": torch.ones_like(held_out), "train": ~held_out, "test": held_out}[self.split]
        return LabeledTensors(images[chosen], torch.from_numpy(labels).long()[chosen], tuple("0123456789"))
