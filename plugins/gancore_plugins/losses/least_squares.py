"""Least squares on logits, Mao et al. 2017 (arXiv:1611.04076)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from gancore.contracts import Loss, Scores

_TARGETS = {"binary": (0.0, 1.0, 1.0), "pearson": (-1.0, 1.0, 0.0)}


class LeastSquares(Loss):
    """Least squares, Mao et al. 2017, section 3 (arXiv:1611.04076).

    D minimizes E (D(x) - b)^2 / 2 + E (D(G(z)) - a)^2 / 2, and G minimizes E (D(G(z)) - c)^2 / 2, with (a, b, c) as
    `targets` says.
    """

    name = "lsgan"
    targets: Literal["binary", "pearson"] = Field(
        default="binary",
        description="(a, b, c): (0, 1, 1), or (-1, 1, 0), with which G minimizes Pearson's chi-squared divergence",
    )

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        false, true, _ = _TARGETS[self.targets]
        return ((real.logits - true).square().mean() + (fake.logits - false).square().mean()) / 2

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        return (fake.logits - _TARGETS[self.targets][2]).square().mean() / 2
