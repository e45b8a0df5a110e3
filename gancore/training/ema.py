"""Exponential moving average (EMA) of the generator's weights."""

from __future__ import annotations

import torch
from torch import nn

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


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, weight: float) -> None:
    """Move the average toward the module by `weight` in 0..1. Buffers are copied: they are statistics, not weights."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), weight)
    for buffer, current in zip(average.buffers(), module.buffers(), strict=True):
        buffer.copy_(current)
