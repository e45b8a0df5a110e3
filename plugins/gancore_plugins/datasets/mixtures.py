"""Toy worlds: mixtures of normal distributions in the plane, where every mode that is lost can be seen."""

from __future__ import annotations

import math
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gancore.contracts import EvaluationProtocol, Mixture
from gancore_plugins.datasets.divided import Divided

if TYPE_CHECKING:
    from torch import Tensor

    from gancore_plugins.datasets.labeled import LabeledTensors

_PROTOCOL = EvaluationProtocol(metrics=("modes",), samples=2500)


class _MixtureDataset(Divided):
    """Points around centers, each center as likely as any; a label says which."""

    evaluation = _PROTOCOL
    std: float = Field(default=0.01, gt=0, description="standard deviation around a center, along each axis")
    count: int = Field(default=100_000, ge=1, le=100_000_000, description="points to train on, or to hold out")
    split: Literal["train", "test"] = Field(default="train", description="points to train on, or held out from them")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="of the points")

    @abstractmethod
    def centers(self) -> Tensor:
        """The centers (M, 2)."""

    def build(self, root: Path) -> LabeledTensors:
        import torch

        from gancore_plugins.datasets.labeled import LabeledTensors

        centers = self.centers()
        dice = torch.Generator().manual_seed(2 * self.seed + (self.split == "test"))
        labels = torch.randint(len(centers), (self.count,), generator=dice)
        points = centers[labels] + self.std * torch.randn(self.count, 2, generator=dice)
        names = tuple(map(str, range(len(centers))))
        return LabeledTensors(points, labels, names, Mixture(centers, self.std))


class Ring(_MixtureDataset):
    """Normal distributions on a circle, as Srivastava et al. 2017 (arXiv:1705.07761) measure lost modes."""

    name = "ring"
    modes: int = Field(default=8, ge=1, le=10_000, description="centers, evenly around the circle")
    radius: float = Field(default=1.0, gt=0, description="of the circle")

    def centers(self) -> Tensor:
        import torch

        angles = torch.arange(self.modes) * (2 * math.pi / self.modes)  # the circle closes, so its end is no center
        return self.radius * torch.stack([angles.cos(), angles.sin()], dim=1)


class Grid(_MixtureDataset):
    """Normal distributions on a square grid, as Srivastava et al. 2017 (arXiv:1705.07761) measure lost modes."""

    name = "grid"
    side: int = Field(default=5, ge=1, le=100, description="centers along each side")
    spacing: float = Field(default=2.0, gt=0, description="between neighboring centers")
    std: float = Field(default=0.05, gt=0, description="standard deviation around a center, along each axis")

    def centers(self) -> Tensor:
        import torch

        along = (torch.arange(self.side) - (self.side - 1) / 2) * self.spacing
        return torch.cartesian_prod(along, along)
