"""What is given to components on the workbench: images, labels, scores, and networks that have begun to learn."""

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


def network(module: object, case: Case) -> nn.Module:
    """The network somewhat later in its training, so that nothing is zero any more.

    One that takes no labels is for runs that have none, and refuses others.
    """
    if not isinstance(module, nn.Module):
        raise PluginError(f"a network must be an nn.Module; received {type(module).__name__}")
    if case.num_classes is not None and not _takes_two(module):
        raise ConfigError("this network takes no labels", "leave num_classes out")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return module


def _takes_two(module: nn.Module) -> bool:
    try:
        inspect.signature(module.forward).bind(None, None)
    except TypeError:
        return False
    return True


def called(module: nn.Module, given: Values) -> object:
    """A network at work on the latent or the images that are given, and on the labels if there are any."""
    return call(module, given["latent"] if "latent" in given else given["images"], given.get("labels"))


def labels(case: Case) -> dict[str, Tensor]:
    """Labels (N,) by their name; none without classes."""
    return {} if case.num_classes is None else {"labels": torch.randint(case.num_classes, (case.count,))}


def images(case: Case) -> Tensor:
    """Images (N, *shape) as networks see them."""
    size = (case.count, *case.shape)
    return torch.randn(size) if len(case.shape) == 1 else torch.rand(size) * 2 - 1


def stored(case: Case, count: int) -> Tensor:
    """So many images as they are stored."""
    if len(case.shape) == 1:
        return torch.randn(count, *case.shape)
    return torch.randint(0, 256, (count, *case.shape), dtype=torch.uint8)


class _Heads(Mapping[str, Tensor]):
    """Whatever head a loss asks for: as many numbers for each image as there are classes."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Tensor:
        return self._values

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def scores(given: Values, which: str) -> Scores:
    """What D said of the real images, or of the fake ones."""
    return Scores(
        images=given[f"{which} images"],
        logits=given[f"{which} logits"],
        labels=given["labels"],
        latent=given["latent"] if which == "fake" else None,
        features=(given[f"{which} features"],),
        heads=_Heads(given[f"{which} heads"]),
    )
