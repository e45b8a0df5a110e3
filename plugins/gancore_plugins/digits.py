"""The small digits that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gancore.contracts import Dataset

if TYPE_CHECKING:
    from gancore_plugins.labelled import LabelledTensors


class Digits(Dataset):
    """Handwritten digits, 8x8 in 17 greys, 1797 in all, no download, Alpaydin and Kaynak 1998.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998;
    scikit-learn's copy, which is the test set of the original.
    """

    name = "digits"

    def build(self, root: Path) -> LabelledTensors:
        import torch
        from sklearn.datasets import load_digits

        from gancore_plugins.labelled import LabelledTensors

        values, labels = load_digits(return_X_y=True)
        greys = torch.from_numpy(values) * (255 / 16)  # greys are 0..16
        images = greys.round().to(torch.uint8).reshape(-1, 1, 8, 8)
        return LabelledTensors(images, torch.from_numpy(labels).long(), tuple("0123456789"))
