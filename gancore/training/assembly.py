"""Assembly of a GAN's parts: built from a config, checked, and moved to the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.data import Dataset as TorchDataset

from gancore.config.run import Options
from gancore.data.feed import Feed
from gancore.distributed.ranks import Ranks
from gancore.errors import PluginError, blame
from gancore.utils.random import derive_seed, seeded

P = TypeVar("P")


@contextmanager
def building(options: Options, part: str, stream: str | None = None) -> Iterator[None]:
    """Seed the random numbers of the block from the run's seed, and attribute its errors to the part."""
    with seeded(derive_seed(options.seed, "build", stream or part)), blame(part, "in build()"):
        yield


def network_on(device: torch.device, role: str, module: nn.Module, layout: torch.memory_format | None) -> nn.Module:
    """Return the network in training mode on the device, its 4D weights in the memory layout if one is given.

    Raises PluginError for an object that is not a module.
    """
    with blame(role):
        if not isinstance(module, nn.Module):
            raise PluginError(f"a {role} must be an nn.Module; received {type(module).__name__}")
    if layout is None:
        return module.to(device).train()
    return module.to(device, memory_format=layout).train()  # type: ignore[call-overload, no-any-return]  # torch's stubs know it for tensors only


def part_on(device: torch.device, part: P) -> P:
    """Return the part, on the device if it is a module."""
    return part.to(device) if isinstance(part, nn.Module) else part


def feed_of(dataset: TorchDataset[Any], options: Options, device: torch.device, ranks: Ranks) -> Feed:
    """Return the batches of a dataset, whose items are (image, label) or an image alone."""
    training = options.training
    return Feed(
        dataset,
        batch_size=options.batch_size,
        seed=options.seed,
        device=device,
        data=training.data,
        workers=training.workers,
        ranks=ranks,
    )
