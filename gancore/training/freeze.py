"""Freezing parts of the networks: `training.freeze` names parameters that are not trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from gancore.config.optimizers import begins, no_parameter
from gancore.errors import ConfigError


def freeze(prefixes: Iterable[str], networks: Mapping[str, nn.Module]) -> None:
    """Freeze, in place, all parameters of the networks, by player, whose names in a checkpoint begin with a prefix.

    A frozen parameter has no gradient, and no optimizer changes it. A module below a prefix is put in evaluation mode:
    batch normalization uses its running statistics and keeps them, spectral normalization makes no power iteration,
    and dropout is off. Raises ConfigError for a prefix that no name has, and if nothing of a network is left to train.
    """
    names = {
        f"{player}.{name}": parameter
        for player, network in networks.items()
        for name, parameter in network.named_parameters(remove_duplicate=False)
    }
    trained = {player for player, network in networks.items() if any(p.requires_grad for p in network.parameters())}
    for index, prefix in enumerate(prefixes):
        if not prefix or not any(begins(name, prefix) for name in names):
            raise no_parameter(f"training.freeze.{index}", prefix, names, "a checkpoint, such as generator.0.weight")
        for name, parameter in names.items():
            if begins(name, prefix):
                parameter.requires_grad_(False)
                parameter.grad = None  # an optimizer would apply it
        for player, network in networks.items():
            for name, module in network.named_modules(remove_duplicate=False):
                if begins(f"{player}.{name}" if name else player, prefix):
                    module.eval()
    for player in trained:
        if not any(parameter.requires_grad for parameter in networks[player].parameters()):
            raise ConfigError(
                f"training.freeze leaves no parameter of the {player} to train",
                "freeze less of it, for example all layers but the last",
            )
