"""The state of modules and optimizers as tensors by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn, optim

from gancore.checkpoint.format import why_not_storable
from gancore.errors import CheckpointError, PluginError, blame
from gancore.utils.copies import copy_part


def of_module(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Return weights and buffers, with the module's name as a prefix."""
    with blame(name, "in state_dict()"):
        return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def check_module(role: str, module: nn.Module) -> None:
    """Raise PluginError for a module whose state cannot be saved, or not be restored. The module is not changed."""
    with blame(role, "in state_dict()"):
        kept = module.state_dict()
    for key, value in kept.items():
        if not isinstance(value, Tensor):
            raise _invalid(role, f"must be tensors, to be saved; {key!r} is {type(value).__name__}")
        if reason := why_not_storable(value):
            raise _invalid(role, f"must be tensors that can be saved; {key!r} is not: {reason}")
    with blame(role, "when it was copied"):
        other = copy_part(module)
    with blame(role, "in load_state_dict()"), torch.no_grad():
        for value in other.state_dict().values():
            value.zero_()
        other.load_state_dict(kept)
        back = other.state_dict()
    lost = [key for key, value in kept.items() if key not in back or not _same(value, back[key])]
    if lost:
        raise _invalid(role, f"must be what load_state_dict() takes back; {lost[0]!r} is not restored")


def _invalid(role: str, what: str) -> PluginError:
    error = PluginError(f"the state of the {role} {what}", "keep state in parameters and buffers; see docs/contract.md")
    error.part = role
    return error


def _same(one: object, other: object) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or one.shape != other.shape:
        return False
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())  # NaN is NaN


def of_optimizer(name: str, optimizer: optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer state of each parameter, by names like `optimizer.NAME.exp_avg.0.weight`."""
    return {
        f"optimizer.{name}.{key}.{place}": value
        for place, parameter in module.named_parameters()
        if parameter in optimizer.state
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def load_module(name: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `of_module` returned. Raises CheckpointError when a name or a shape differs."""
    try:
        module.load_state_dict(below(f"{name}.", tensors))
    except RuntimeError as error:
        message = " ".join(str(error).split())
        raise CheckpointError(f"the checkpoint is of another {name}: {message}", "build the same networks") from error


def load_optimizer(optimizer: optim.Optimizer, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Restore what `of_optimizer` returned for the modules of an optimizer, by role.

    Raises CheckpointError when a name or a shape differs.
    """
    places = {id(weight): place for place, weight in enumerate(_weights(optimizer))}
    states: dict[int, dict[str, Tensor]] = {}
    for name, module in modules.items():
        parameters = {key: parameter for key, parameter in module.named_parameters() if id(parameter) in places}
        for key, value in below(f"optimizer.{name}.", tensors).items():
            kind, _, parameter = key.partition(".")
            if parameter not in parameters or (value.ndim and not _fits(value, parameters[parameter])):
                raise CheckpointError(
                    f"the checkpoint is of another {name}: optimizer state {key} of shape {tuple(value.shape)}",
                    "build the same networks",
                )
            # The optimizer changes it in place, so it is a copy, in the memory layout of the weight for fused
            # optimizers.
            like = parameters[parameter] if value.shape == parameters[parameter].shape else value
            copy = torch.empty_like(like, dtype=value.dtype).copy_(value)
            states.setdefault(places[id(parameters[parameter])], {})[kind] = copy
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _fits(value: Tensor, weight: Tensor) -> bool:
    """Return whether a state has the shape of its weight, or of one of its means, as those of Adafactor."""
    if value.ndim != weight.ndim:
        return False
    return all(side in (1, of_weight) for side, of_weight in zip(value.shape, weight.shape, strict=True))


def _weights(optimizer: optim.Optimizer) -> list[Tensor]:
    """Return the weights of all groups, in the order that the optimizer numbers them in its state."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix, by the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
