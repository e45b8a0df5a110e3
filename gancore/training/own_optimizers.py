"""Optimizers that a user brings: whether they train what a player's update must train."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import get_args

from torch import nn, optim

from gancore.config.optimizers import OptimizerSettings
from gancore.config.run import OptimizerPair
from gancore.contracts import Player
from gancore.errors import ConfigError, unknown_name


def check_players(optimizers: Mapping[Player, optim.Optimizer], settings: OptimizerPair) -> None:
    """Raise ConfigError unless these are optimizers, by player, and no settings are given for the same player."""
    for player, optimizer in optimizers.items():
        if player not in get_args(Player):
            raise ConfigError(unknown_name("player", str(player), get_args(Player)))
        if not isinstance(optimizer, optim.Optimizer):
            what = f"the class {optimizer.__name__}" if isinstance(optimizer, type) else type(optimizer).__name__
            raise ConfigError(
                f"the {player}'s optimizer must be an instance of torch.optim.Optimizer; received {what}",
                f"make it over the parameters: torch.optim.Adam({player}.parameters(), lr=2e-4)",
            )
        closure = signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is Parameter.empty:
            raise ConfigError(
                f"{type(optimizer).__name__} calls a closure several times per step, which no update of a GAN supports",
                "use an optimizer whose step() needs no argument, such as torch.optim.Adam",
            )
        if getattr(settings, player) != OptimizerSettings():  # its schedules would move the rates of the user
            raise ConfigError(
                f"the {player} has an optimizer of your own, so options.optimizer.{player} has no effect",
                "leave one of them out",
            )


def check_parameters(player: Player, optimizer: optim.Optimizer, modules: Mapping[str, nn.Module]) -> None:
    """Raise ConfigError unless the optimizer trains the parameters of a player's modules, by role, and no others.

    Frozen parameters, without `requires_grad`, may be left out.
    """
    names = {
        parameter: name if role == player else f"{role}: {name}"
        for role, module in modules.items()
        for name, parameter in module.named_parameters()
    }
    trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for parameter, name in names.items() if parameter.requires_grad and parameter not in trained]
    if missing:
        raise ConfigError(
            f"the {player}'s optimizer does not train {len(missing)} of the parameters that its update trains: "
            f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}",
            "add them with optimizer.add_param_group, or freeze them with requires_grad_(False)",
        )
    if foreign := len(trained - names.keys()):
        raise ConfigError(
            f"the {player}'s optimizer has {foreign} parameters of other modules than the {player} and the parts "
            "that are trained with it",
            f"make it over the parameters of the module that was passed: {player}.parameters()",
        )
