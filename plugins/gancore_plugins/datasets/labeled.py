"""Labeled images or vectors in memory."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import TensorDataset

from gancore.contracts import Mixture


class LabeledTensors(TensorDataset):
    """Items (image, label) of images uint8 (N, C, H, W), or vectors float32 (N, F), and `labels` int64 (N,).

    `classes` names the labels. `mixture` is the distribution of vectors, if it is known. `mirrors` is whether an image
    and its mirror image are equally likely.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        classes: tuple[str, ...],
        mixture: Mixture | None = None,
        *,
        mirrors: bool = False,
    ) -> None:
        super().__init__(images, labels)
        self.classes, self.mixture, self.mirrors = classes, mixture, mirrors
