"""Exponential moving average (EMA) of the generator's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gancore.config.run import EMASettings
from gancore.settings import TrainingTime, value_at


def weight_of(ema: EMASettings, time: TrainingTime, new_images: int) -> float:
    """Return the step size w in 0..1 for `average.lerp_(weight, w)`, such that old weights halve every half-life.

    `new_images` are the real images seen since the last update. The half-life may ramp up with the images seen,
    Karras et al. 2020 (arXiv:2006.06676), so that a young average forgets the first weights.
    """
    half_life = 1000 * value_at(ema.half_life_kimg, time)
    if ema.ramp_up is not None:
        half_life = min(half_life, ema.ramp_up * time.images_seen)
    return float(1 - 0.5 ** (new_images / half_life))


class Average:
    """The moving average of a module, in another module of the same structure.

    Buffers are copied: they are statistics, not weights.
    """

    def __init__(self, average: nn.Module, module: nn.Module) -> None:
        self._average, self._module = average, module
        # Collected once: walking through a small network takes a noticeable share of its step.
        self._averages: list[Tensor] = list(average.parameters())
        self._weights: list[Tensor] = list(module.parameters())
        self._has_buffers = any(True for _ in module.buffers())

    @torch.no_grad()
    def move(self, weight: float) -> None:
        """Move the average toward the module by `weight` in 0..1."""
        torch._foreach_lerp_(self._averages, self._weights, weight)
        if self._has_buffers:  # a module may replace them
            for buffer, current in zip(self._average.buffers(), self._module.buffers(), strict=True):
                buffer.copy_(current)
