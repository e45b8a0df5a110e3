"""Inputs for components: images, conditions, extras, and networks with perturbed weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gancore.errors import ConfigError, PluginError
from gancore.testing.cases import Case
from gancore.testing.small_networks import Guesses
from gancore.training.networks import call

Values = Mapping[str, Tensor]

EXTRA = "extra "
"""Prefix of the inputs that D receives by name."""


def network(module: object) -> nn.Module:
    """Return the module itself. Raises PluginError if a build has returned something else."""
    if not isinstance(module, nn.Module):
        raise PluginError(f"a network must be an nn.Module; received {type(module).__name__}")
    return module


def perturbed(module: nn.Module, case: Case) -> nn.Module:
    """Return the network with weights moved a little, so that a zero initialization hides nothing.

    Raises ConfigError for a case with a condition if `forward` takes none: such a network is for unconditional runs.
    """
    if case.condition is not None and not _takes_condition(module):
        raise ConfigError("this network takes no condition", "leave the condition out")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return module


def _takes_condition(module: nn.Module) -> bool:
    extras = dict.fromkeys(_extra_names(module))
    try:
        inspect.signature(module.forward).bind(None, None, **extras)
    except TypeError:
        return False
    return True


def _extra_names(module: nn.Module) -> tuple[str, ...]:
    return tuple(getattr(module, "extra_inputs", ()))


def extra_inputs(module: nn.Module, case: Case, guesses: Guesses) -> dict[str, Tensor]:
    """Return the extras (N, …) that D receives. One that the case does not name has the shape of a latent (N, Z)."""
    names = _extra_names(module)
    drawn = {name: torch.randn(case.count, *case.extras.get(name, (case.latent_dim,))) for name in names}
    guesses.names.update(f"extras={{{name!r}: ...}}" for name in names if name not in case.extras)
    return {EXTRA + name: extra for name, extra in drawn.items()}


def extras_in(inputs: Values) -> dict[str, Tensor]:
    """Return the extras among the inputs of D, by the names that D gives them."""
    return {key.removeprefix(EXTRA): value for key, value in inputs.items() if key.startswith(EXTRA)}


def call_network(module: Callable[..., Any], batch: Tensor, inputs: Values) -> Any:  # Any: what a network returns
    """Call a network, or its `encode`, on a batch, on the condition if there is one, and on the extras."""
    return call(module, batch, inputs.get("condition"), extras_in(inputs))


def conditions(case: Case) -> dict[str, Tensor]:
    """Return conditions (N, …) under the key `condition`, or nothing in a case without one."""
    if case.condition is None:
        return {}
    if isinstance(case.condition, int):
        return {"condition": torch.randint(case.condition, (case.count,))}
    return {"condition": torch.rand(case.count, *case.condition) * 2 - 1}


def images(case: Case) -> Tensor:
    """Return samples (N, *shape) in the range of networks: [-1, 1] if they are bounded, else any number."""
    size = (case.count, *case.shape)
    return torch.rand(size) * 2 - 1 if case.bounded else torch.randn(size)


def stored_images(case: Case, count: int) -> Tensor:
    """Return samples (count, *shape) as datasets store them: uint8 if they are bounded, else float32."""
    size = (count, *case.shape)
    return torch.randint(0, 256, size, dtype=torch.uint8) if case.bounded else torch.randn(size)
