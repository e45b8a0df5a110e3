"""Inputs for components: images, conditions, scores, and networks with perturbed weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from gancore.contracts import Scores
from gancore.errors import ConfigError, PluginError
from gancore.testing.cases import Case
from gancore.training.networks import call

Values = Mapping[str, Tensor]


def perturbed(module: object, case: Case) -> nn.Module:
    """Return the network with weights moved a little, so that a zero initialization hides nothing.

    Raises ConfigError for a case with a condition if `forward` takes none: such a network is for unconditional runs.
    """
    if not isinstance(module, nn.Module):
        raise PluginError(f"a network must be an nn.Module; received {type(module).__name__}")
    if case.condition is not None and not _takes_condition(module):
        raise ConfigError("this network takes no condition", "leave the condition out")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return module


def _takes_condition(module: nn.Module) -> bool:
    try:
        inspect.signature(module.forward).bind(None, None)
    except TypeError:
        return False
    return True


def call_network(module: nn.Module, inputs: Values) -> object:
    """Call a network on the latent or the images, and on the condition if there is one."""
    return call(module, inputs["latent"] if "latent" in inputs else inputs["images"], inputs.get("condition"))


def conditions(case: Case) -> dict[str, Tensor]:
    """Return conditions (N, …) under the key `condition`, or nothing in a case without one."""
    if case.condition is None:
        return {}
    if isinstance(case.condition, int):
        return {"condition": torch.randint(case.condition, (case.count,))}
    return {"condition": torch.rand(case.count, *case.condition) * 2 - 1}


def images(case: Case) -> Tensor:
    """Return images (N, *shape) in the range of networks: [-1, 1], or any number in vectors."""
    size = (case.count, *case.shape)
    return torch.randn(size) if len(case.shape) == 1 else torch.rand(size) * 2 - 1


def stored_images(case: Case, count: int) -> Tensor:
    """Return images (count, *shape) as datasets store them: uint8, or float32 vectors."""
    if len(case.shape) == 1:
        return torch.randn(count, *case.shape)
    return torch.randint(0, 256, (count, *case.shape), dtype=torch.uint8)


class _AnyHead(Mapping[str, Tensor]):
    """The same values for every head that a loss asks for."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Tensor:
        return self._values

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def scores(inputs: Values, side: str) -> Scores:
    """Return the scores of D for real or for fake images."""
    return Scores(
        images=inputs[f"{side} images"],
        logits=inputs[f"{side} logits"],
        condition=inputs["condition"],
        latent=inputs["latent"] if side == "fake" else None,
        features=(inputs[f"{side} features"],),
        heads=_AnyHead(inputs[f"{side} heads"]),
    )
