"""Labelled images that lie in memory."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import TensorDataset


class LabelledTensors(TensorDataset):
    """Items (image, label) of `images` uint8 (N, C, H, W) and `labels` int64 (N,); `classes` names the labels."""

    def __init__(self, images: Tensor, labels: Tensor, classes: tuple[str, ...]) -> None:
        super().__init__(images, labels)
        self.classes = classes
