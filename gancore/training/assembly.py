"""Assembly of a GAN's parts: built from a config, checked, and moved to the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset as TorchDataset

from gancore.config.run import Options
from gancore.contracts import Component, Spec
from gancore.data.feed import Feed
from gancore.distributed.ranks import Ranks
from gancore.errors import ConfigError, PluginError, blame
from gancore.utils.random import derive_seed, seeded
from gancore.utils.text import file_size, with_unit_prefix

P = TypeVar("P")


@contextmanager
def building(options: Options, part: str, stream: str | None = None) -> Iterator[None]:
    """Seed the random numbers of the block from the run's seed, and attribute its errors to the part."""
    with seeded(derive_seed(options.seed, "build", stream or part)), blame(part, "in build()"):
        yield


def check_room(networks: Mapping[str, nn.Module], free: int | None) -> None:
    """Raise ConfigError for networks that cannot be trained in `free` bytes, before the system ends the process.

    The check of all parts before a run holds a copy of each weight and a gradient.
    """
    weights = {
        role: [weight for weight in network.parameters() if not is_lazy(weight)] for role, network in networks.items()
    }
    needed = 2 * sum(weight.nbytes for own in weights.values() for weight in own)
    if free is not None and needed > free:
        sizes = " and ".join(
            f"{role} {with_unit_prefix(sum(weight.numel() for weight in own))}".rstrip()
            for role, own in weights.items()
        )
        raise ConfigError(
            f"networks of {sizes} parameters take at least {file_size(needed)} more memory, and {file_size(free)} are "
            "free",
            "--set size=small, or a lower width of the generator and the discriminator",
        )


def network_on(device: torch.device, role: str, module: nn.Module, layout: torch.memory_format | None) -> nn.Module:
    """Return the network on the device, its 4D weights in the memory layout if one is given.

    A network in evaluation mode is put in training mode. In one in training mode, parts keep their own modes.
    Raises PluginError for an object that is not a module.
    """
    with blame(role):
        check_instance(role, module)
        if not isinstance(module, nn.Module):
            built = f'gancore.find("{role}", NAME).build(gancore.Spec(shape, latent_dim))'
            hint = f"build it first: {built}" if isinstance(module, Component | str) else ""
            raise PluginError(f"a {role} must be an nn.Module; received {type(module).__name__}", hint)
    if not module.training:
        module.train()
    if layout is None:
        return module.to(device)
    return module.to(device, memory_format=layout)  # type: ignore[call-overload, no-any-return]  # torch's stubs know it for tensors only


def checked_options(options: object) -> Options:
    """Return the options, by default all defaults. Raises ConfigError for anything else than `Options`."""
    if options is None:
        return Options()
    if not isinstance(options, Options):
        raise ConfigError(
            f"the options must be gancore.Options; received {type(options).__name__}", "for example Options(**options)"
        )
    return options


def check_instance(role: str, part: object) -> None:
    """Raise PluginError for a class in place of an instance."""
    if isinstance(part, type):
        raise PluginError(
            f"a {role} must be an instance; received the class {part.__name__}", f"make one: {part.__name__}(...)"
        )


def check_objective(objective: object) -> None:
    """Raise PluginError for an object that lacks the methods of a loss."""
    with blame("loss"):
        check_instance("loss", objective)
        missing = [name for name in ("discriminator", "generator") if not callable(getattr(objective, name, None))]
        if missing:
            raise PluginError(
                f"a loss must have the methods discriminator(real, fake) and generator(fake, real); "
                f"{type(objective).__name__} lacks {' and '.join(missing)}",
                'pass the name of a loss, such as "bce", or see docs/contract.md',
            )


def part_on(device: torch.device, part: P) -> P:
    """Return the part, on the device if it is a module."""
    return part.to(device) if isinstance(part, nn.Module) else part


def feed_of(dataset: TorchDataset[Any], options: Options, device: torch.device, ranks: Ranks) -> Feed:
    """Return the batches of a dataset, whose items are (sample, condition), or samples alone."""
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


def spec_of(feed: Feed, options: Options) -> Spec:
    """Return what the networks of a run are built for. Raises ConfigError as `Feed.spec` does."""
    conditional, width_factor = options.training.conditional, options.width_factor
    return feed.spec(options.latent.dim, conditional=conditional, width_factor=width_factor)
