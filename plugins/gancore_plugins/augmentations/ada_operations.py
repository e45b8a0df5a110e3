"""The operations of ADA with the distributions of Karras et al. 2020 (arXiv:2006.06676), appendix B."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gancore_plugins.augmentations import affine, colors, operations

GROUPS: Mapping[str, tuple[str, ...]] = {
    "blit": ("flip", "rotate90", "translation"),
    "geometric": ("scale", "rotate", "anisotropic", "shift"),
    "color": ("brightness", "contrast", "luma-flip", "hue", "saturation"),
}
"""The operations of each group of the paper that has several."""


def augmented(images: Tensor, names: Collection[str], probability: Tensor) -> Tensor:
    """Return images (N, C, H, W) to each of which each operation was applied with this probability ().

    Images to which none was applied stay as they are, bit for bit. Operations have the order of the paper, not that of
    their names.
    """
    draw = _Draw(images, probability)
    moved = affine.identity(images)  # (N, 3, 3)
    for name, move in _MOVES:
        if name in names:
            moved = moved @ move(draw)  # the first operation first
    images = _where_changed(images, moved, affine.resample)
    recolored = colors.identity(images)  # (N, 4, 4)
    for name, color in _COLORS:
        if name in names:
            recolored = color(draw) @ recolored  # the last operation first
    images = _where_changed(images, recolored, colors.recolor)
    if "noise" in names:
        amount = draw.chosen(draw.normal().abs() * 0.1, 0)
        images = images + amount[:, None, None, None] * torch.randn_like(images)
    if "cutout" in names:
        images = torch.where(draw.is_chosen()[:, None, None, None], operations.cutout(images), images)
    return images


def _where_changed(images: Tensor, matrix: Tensor, execute: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Execute the matrices (N, M, M) where they are not the identity."""
    changed = (matrix != torch.eye(matrix.shape[1], device=matrix.device, dtype=matrix.dtype)).flatten(1).any(dim=1)
    if images.device.type == "cpu" and not changed.any():  # elsewhere to ask would mean to wait for the device
        return images
    return torch.where(changed[:, None, None, None], execute(images, matrix), images)


@dataclass(frozen=True)
class _Draw:
    """Draws random parameters (N,) of operations for a batch of images, each image with the probability ()."""

    images: Tensor
    probability: Tensor

    def is_chosen(self, probability: Tensor | None = None) -> Tensor:
        """Return which images (N,) are chosen."""
        return self._uniform() < (self.probability if probability is None else probability)

    def chosen(self, values: Tensor, neutral: float) -> Tensor:
        """Return the values (N,) of images that are chosen, and else the neutral one."""
        return torch.where(self.is_chosen(), values, neutral)

    def one_of(self, count: int) -> Tensor:
        """Return numbers in 0..count - 1; 0 for images that are not chosen."""
        return self.chosen((self._uniform() * count).floor().clamp(max=count - 1), 0)

    def factor(self, deviation: float) -> Tensor:
        """Return lognormal factors, with a standard deviation of the binary logarithm; 1 for images not chosen."""
        return self.chosen((self.normal() * deviation).exp2(), 1)

    def angle(self) -> Tensor:
        """Return angles in -π..π; 0 for images that are not chosen."""
        return self.chosen(self._between(-math.pi, math.pi), 0)

    def pixels(self) -> tuple[Tensor, Tensor]:
        """Return moves of up to an eighth of the width and of the height, in whole pixels."""
        return self._moved(*((self._between(-1 / 8, 1 / 8) * side).round() for side in self._sides))

    def shift(self) -> tuple[Tensor, Tensor]:
        """Return moves with a standard deviation of an eighth of the width and of the height, in pixels."""
        return self._moved(*(self.normal() / 8 * side for side in self._sides))

    def turns(self) -> Tensor:
        """Return numbers of rotations by 90 degrees, 0..3; 0 or 2 for images that are not square."""
        width, height = self._sides
        return self.one_of(4) if width == height else 2 * self.one_of(2)

    def rotation(self) -> Tensor:
        """Return matrices of rotations. Two of them together rotate with the probability: 1 - (1 - q)² = p."""
        rotates = self.is_chosen(1 - (1 - self.probability).sqrt())
        return affine.rotation(torch.where(rotates, self._between(-math.pi, math.pi), 0))

    def normal(self) -> Tensor:
        """Return normal numbers with mean 0 and standard deviation 1."""
        return torch.randn(len(self.images), device=self.images.device, dtype=self.images.dtype)

    @property
    def _sides(self) -> tuple[int, int]:
        return self.images.shape[3], self.images.shape[2]

    def _moved(self, right: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        chosen = self.is_chosen()
        return torch.where(chosen, right, 0), torch.where(chosen, down, 0)

    def _between(self, low: float, high: float) -> Tensor:
        return self._uniform() * (high - low) + low

    def _uniform(self) -> Tensor:
        return torch.rand(len(self.images), device=self.images.device, dtype=self.images.dtype)


def _scale(draw: _Draw) -> Tensor:
    factor = draw.factor(0.2)
    return affine.scaling(factor, factor)


def _anisotropic(draw: _Draw) -> Tensor:
    factor = draw.factor(0.2)
    return affine.scaling(factor, 1 / factor)


_MOVES: Iterable[tuple[str, Callable[[_Draw], Tensor]]] = (
    ("flip", lambda draw: affine.flip(draw.one_of(2))),
    ("rotate90", lambda draw: affine.quarter_turns(draw.turns())),
    ("translation", lambda draw: affine.translation(*draw.pixels())),
    ("scale", _scale),
    ("rotate", _Draw.rotation),
    ("anisotropic", _anisotropic),
    ("rotate", _Draw.rotation),
    ("shift", lambda draw: affine.translation(*draw.shift())),
)
"""Matrices (N, 3, 3) of operations, in the order of the paper."""
_COLORS: Iterable[tuple[str, Callable[[_Draw], Tensor]]] = (
    ("brightness", lambda draw: colors.brightness(draw.chosen(draw.normal() * 0.2, 0))),
    ("contrast", lambda draw: colors.contrast(draw.factor(0.5))),
    ("luma-flip", lambda draw: colors.luma_flip(draw.one_of(2))),
    ("hue", lambda draw: colors.hue(draw.angle())),
    ("saturation", lambda draw: colors.saturation(draw.factor(1.0))),
)
"""Matrices (N, 4, 4) of operations, in the order of the paper."""
MOVING = frozenset(name for name, _ in _MOVES)
COLORING = frozenset(name for name, _ in _COLORS)
