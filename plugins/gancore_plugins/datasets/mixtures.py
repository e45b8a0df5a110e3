"""Toy data: mixtures of normal distributions in the plane, where it is easy to see which modes a GAN has lost."""

from __future__ import annotations

import math
from abc import abstractmethod
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from gancore.contracts import EvaluationProtocol, Mixture
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.labeled import LabeledTensors


class _MixtureDataset(Divided):
    """Points (N, 2) around centers, which are equally likely; the label of a point is the number of its center."""

    evaluation = EvaluationProtocol(metrics=("modes",), samples=2500)
    std: float = Field(default=0.01, gt=0, description="standard deviation around a center, along each axis")
    count: int = Field(default=100_000, ge=1, le=100_000_000, description="number of points")
    split: Literal["train", "test"] = Field(default="train", description="points to train on, or held-out points")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="random seed of the points")

    @abstractmethod
    def centers(self) -> Tensor:
        """Return the centers (M, 2)."""

    def build(self, root: Path) -> LabeledTensors:
        centers = self.centers()
        rng = torch.Generator().manual_seed(2 * self.seed + (self.split == "test"))
        labels = torch.randint(len(centers), (self.count,), generator=rng)  # (N,)
        points = centers[labels] + self.std * torch.randn(self.count, 2, generator=rng)  # (N, 2)
        classes = tuple(map(str, range(len(centers))))
        return LabeledTensors(points, labels, classes, Mixture(centers, self.std))


class Ring(_MixtureDataset):
    """Normal distributions on a circle, as Srivastava et al. 2017 (arXiv:1705.07761) measure lost modes."""

    name = "ring"
    modes: int = Field(default=8, ge=1, le=10_000, description="number of centers, evenly spaced on the circle")
    radius: float = Field(default=1.0, gt=0, description="radius of the circle")

    def centers(self) -> Tensor:
        angles = torch.arange(self.modes) * (2 * math.pi / self.modes)
        return self.radius * torch.stack([angles.cos(), angles.sin()], dim=1)


class Grid(_MixtureDataset):
    """Normal distributions on a square grid, as Srivastava et al. 2017 (arXiv:1705.07761) measure lost modes."""

    name = "grid"
    side: int = Field(default=5, ge=1, le=100, description="centers along each side")
    spacing: float = Field(default=2.0, gt=0, description="distance between neighboring centers")
    std: float = Field(default=0.05, gt=0, description="standard deviation around a center, along each axis")

    def centers(self) -> Tensor:
        positions = (torch.arange(self.side) - (self.side - 1) / 2) * self.spacing
        return torch.cartesian_prod(positions, positions)
