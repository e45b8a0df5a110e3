"""The 8x8 digits that come with scikit-learn."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
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
            "fd-classifier",
            "kid-classifier",
            "is-classifier",
            "precision-classifier",
            "recall-classifier",
            "density-classifier",
            "coverage-classifier",
            "class-kl-classifier",
        ),
        samples=1797,
        gate=0.97,
    )
    split: Literal["all", "train", "test"] = Field(
        default="all", description="all images; train: all but every fifth; test: every fifth"
    )

    def build(self, root: Path) -> LabeledTensors:
        values, labels = _read()
        images = (torch.from_numpy(values) * (255 / 16)).round().to(torch.uint8).reshape(-1, 1, 8, 8)
        held_out = torch.arange(len(images)) % 5 == 4
        chosen = {"all": torch.ones_like(held_out), "train": ~held_out, "test": held_out}[self.split]
        return LabeledTensors(images[chosen], torch.from_numpy(labels).long()[chosen], tuple("0123456789"))


def _read() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pixels (1797, 64) in 0..16, and the labels (1797,).

    scikit-learn's function, whose import takes most of a second, is used only where its file is at another place.
    """
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                table = np.loadtxt(lines, delimiter=",")
            return table[:, :-1], table[:, -1].astype(int)
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    return values, labels
