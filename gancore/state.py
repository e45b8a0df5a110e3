"""Modules and optimizers as tensors by name, and back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn, optim

from gancore.errors import CheckpointError


def of_module(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers, each below the module's name."""
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def of_optimizer(name: str, optimizer: optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """What an optimizer remembers of each parameter: `optimizer.NAME.exp_avg.0.weight`."""
    return {
        f"optimizer.{name}.{key}.{place}": value
        for place, parameter in module.named_parameters()
        if parameter in optimizer.state
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def load_module(name: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `of_module` gave. Raises CheckpointError when a name or a shape is another."""
    try:
        module.load_state_dict(below(f"{name}.", tensors))
    except RuntimeError as error:
        message = " ".join(str(error).split())
        raise CheckpointError(f"the checkpoint is of another {name}: {message}", "build the same networks") from error


def load_optimizer(name: str, optimizer: optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `of_optimizer` gave. Raises CheckpointError when a name or a shape is another."""
    parameters = {key: parameter for key, parameter in module.named_parameters() if parameter.requires_grad}
    places = {key: place for place, key in enumerate(parameters)}
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in below(f"optimizer.{name}.", tensors).items():
        kind, _, parameter = key.partition(".")
        if parameter not in parameters or (value.ndim and value.shape != parameters[parameter].shape):
            raise CheckpointError(
                f"the checkpoint is of another {name}: optimizer state {key} of shape {tuple(value.shape)}",
                "build the same networks",
            )
        # A copy: the optimizer changes its state in place.
        states.setdefault(places[parameter], {})[kind] = value.clone()
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, under the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
