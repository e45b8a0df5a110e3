"""Exponential moving averages (EMA) of the generator's weights, one for each half-life."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gancore.config.run import EMASettings
from gancore.errors import ConfigError
from gancore.settings import TrainingTime, value_at
from gancore.utils.copies import copy_part

EMA = "ema"
"""Role of the average with the half-life `ema.half_life_kimg`, which samples are drawn from."""


def step_sizes(ema: EMASettings, time: TrainingTime, new_images: int) -> tuple[float, ...]:
    """Return a step size w in 0..1 for each average: `average.lerp_(weight, w)` halves old weights every half-life.

    `new_images` are the real images seen since the last update. The half-lives may ramp up with the images seen,
    Karras et al. 2020 (arXiv:2006.06676), so that a young average forgets the first weights.
    """
    most = float("inf") if ema.ramp_up is None else ema.ramp_up * time.images_seen
    half_lives = (value_at(ema.half_life_kimg, time), *ema.more_kimg)
    return tuple([1 - 0.5 ** (new_images / min(1000 * kimg, most)) for kimg in half_lives])


def roles_of(ema: EMASettings) -> dict[str, float | None]:
    """Return the half-life of each average in kimg, None for a schedule, by its role: the first word of tensor names.

    A role has no dot, so that names of tensors below it have one meaning.
    """
    first, *more = ema.half_lives
    return {EMA: first} | {f"{EMA}_{short(kimg).replace('.', '_')}": kimg for kimg in more if kimg is not None}


def short(kimg: float) -> str:
    """Return a half-life as text: `50` and `0.5`."""
    return repr(float(kimg)).removesuffix(".0")


def is_average(role: str) -> bool:
    """Return whether a module in the state of training is an average."""
    return role == EMA or role.startswith(f"{EMA}_")


def role_of(ema: EMASettings | None, kimg: float | None) -> str:
    """Return the role of the average with a half-life in kimg, by default that of `half_life_kimg`.

    Raises ConfigError if the run does not keep it.
    """
    if ema is None:
        raise ConfigError("the run keeps no average of its weights (EMA)", "leave --ema out")
    roles = roles_of(ema)
    if kimg is None:
        return EMA
    for role, known in roles.items():
        if known == kimg:
            return role
    known_ones = [short(known) for known in sorted(kimg for kimg in roles.values() if kimg is not None)]
    scheduled = "" if roles[EMA] is not None else "; the one whose half-life is a schedule is used without --ema"
    if not known_ones:
        raise ConfigError("the half-life of the run's only average (EMA) is a schedule", "leave --ema out")
    raise ConfigError(
        f"the run keeps no average (EMA) with a half-life of {short(kimg)} kimg; it keeps "
        f"{', '.join(known_ones)}{scheduled}",
        f"--ema {known_ones[0]}",
    )


class Averages:
    """The moving averages of a module; `modules` are copies of it by role, in evaluation mode and without gradients.

    Buffers are copied: they are statistics, not weights.
    """

    def __init__(self, module: nn.Module, roles: Sequence[str]) -> None:
        self._module = module
        self.modules = {role: copy_part(module).eval().requires_grad_(False) for role in roles}
        # Collected once: walking through a small network takes a noticeable share of its step.
        self._averages: list[list[Tensor]] = [list(average.parameters()) for average in self.modules.values()]
        self._weights: list[Tensor] = list(module.parameters())
        self._has_buffers = any(True for _ in module.buffers())

    @torch.no_grad()
    def move(self, weights: Sequence[float]) -> None:
        """Move each average toward the module by its weight in 0..1."""
        for averages, weight in zip(self._averages, weights, strict=True):
            torch._foreach_lerp_(averages, self._weights, weight)
        if self._has_buffers:  # a module may replace them
            for average in self.modules.values():
                for buffer, current in zip(average.buffers(), self._module.buffers(), strict=True):
                    buffer.copy_(current)
