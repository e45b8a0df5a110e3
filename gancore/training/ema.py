"""The average of a generator's weights over time."""

from __future__ import annotations

import torch
from torch import nn

from gancore.config.run import EMASettings
from gancore.settings import TrainingTime, value_at


def weight_of(ema: EMASettings, moment: TrainingTime, new_images: int) -> float:
    """The weight of a module in its average, in 0..1, such that the share of what was there halves every half-life.

    `new_images` are those of the images seen that came since the last update. The half-life may ramp up with what has
    been seen, Karras et al. 2020 (arXiv:2006.06676), so that a young average forgets its beginnings.
    """
    half_life = 1000 * value_at(ema.half_life_kimg, moment)
    if ema.ramp_up is not None:
        half_life = min(half_life, ema.ramp_up * moment.images_seen)
    return float(1 - 0.5 ** (new_images / half_life))


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, weight: float) -> None:
    """Moves the average toward the module, whose weight in it is in 0..1.

    Buffers are copied: they are statistics of the current weights, not weights.
    """
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), weight)
    for kept, current in zip(average.buffers(), module.buffers(), strict=True):
        kept.copy_(current)
