"""Labeled images or points that lie in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.utils.data import TensorDataset

if TYPE_CHECKING:
    from gancore.contracts import Mixture


class LabeledTensors(TensorDataset):
    """Items (image, label) of images uint8 (N, C, H, W), or vectors float32 (N, F), and `labels` int64 (N,).

    `classes` names the labels; `mixture` tells how vectors are distributed, where that is known; `mirrors`, whether an
    image and its mirror image are equally likely.
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
