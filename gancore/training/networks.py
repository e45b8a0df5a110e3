"""The two players as modules: calling them, reading what they say, and borrowing them in another mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from gancore.config.run import LatentSettings
from gancore.contracts import Output, Regularizer, Scores
from gancore.errors import ConfigError, PluginError, blame

Network = Callable[..., Any]
"""A network, or what stands before one: it is called with a batch, and perhaps its labels."""


def call(module: Network, batch: Tensor, labels: Tensor | None) -> Any:  # Any: images, logits, or an Output
    """A network at work: the labels are an argument only where the run is conditional."""
    return module(batch) if labels is None else module(batch, labels)


def generate_images(generator: nn.Module, latent: Tensor, labels: Tensor | None) -> Tensor:
    """The fakes (N, *shape) that G makes of latents, in float32 whatever precision it multiplies in."""
    with blame("generator", "in forward()"):
        images: Tensor = call(generator, latent, labels)
    return _at_least_float32(images)


def judge(discriminator: Network, images: Tensor, latent: Tensor | None, labels: Tensor | None) -> Scores:
    """What D says of a batch; `latent` is what fakes were made of, None for real images."""
    with blame("discriminator", "in forward()"):
        output = output_of(call(discriminator, images, labels))
    return _scores(output, slice(None), images, latent, labels)


def score_pair(
    discriminator: Network, real: Tensor, fake: Tensor, latent: Tensor, labels: Tensor | None
) -> tuple[Scores, Scores]:
    """What D says of real and of fake images that it sees in one pass. Both have the same labels."""
    twice = None if labels is None else torch.cat([labels, labels])
    with blame("discriminator", "in forward()"):
        both = output_of(call(discriminator, torch.cat([real, fake]), twice))
    count = len(real)
    return (
        _scores(both, slice(count), real, None, labels),
        _scores(both, slice(count, None), fake, latent, labels),
    )


def output_of(verdict: object) -> Output:
    """What a discriminator returned, bare logits or not, as an `Output`."""
    return verdict if isinstance(verdict, Output) else Output(verdict)  # type: ignore[arg-type]  # rehearsed before


def _scores(output: Output, part: slice, images: Tensor, latent: Tensor | None, labels: Tensor | None) -> Scores:
    return Scores(
        images=images,
        logits=_at_least_float32(output.logits[part]),
        labels=labels,
        latent=latent,
        features=tuple(_at_least_float32(feature[part]) for feature in output.features),
        heads={name: _at_least_float32(head[part]) for name, head in output.heads.items()},
    )


def together(parts: Sequence[Scores]) -> Scores:
    """What D said of the parts of one batch, as if it had been said at once."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Scores(
        images=torch.cat([part.images for part in parts]),
        logits=torch.cat([part.logits for part in parts]),
        labels=_cat([part.labels for part in parts]),
        latent=_cat([part.latent for part in parts]),
        features=tuple(torch.cat(same) for same in zip(*(part.features for part in parts), strict=True)),
        heads={name: torch.cat([part.heads[name] for part in parts]) for name in first.heads},
    )


def _cat(tensors: Sequence[Tensor | None]) -> Tensor | None:
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(there) if there else None


def _at_least_float32(values: Tensor) -> Tensor:
    """Losses are computed in no less, whatever the networks compute in; what is not floating point stays as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32)) if values.is_floating_point() else values


def draw_latent(latent: LatentSettings, count: int, generator: torch.Generator) -> Tensor:
    """Latents (N, Z) on the device of the random generator."""
    size = (count, latent.dim)
    if latent.distribution == "normal":
        return torch.randn(size, generator=generator, device=generator.device)
    return torch.rand(size, generator=generator, device=generator.device).mul_(2).sub_(1)


class Freezer:
    """Blocks in which no parameter of a module collects a gradient; after each, each wants what it wanted before.

    Nor does spectral normalization iterate there: the singular vectors belong to the updates of the module itself.
    """

    def __init__(self, module: nn.Module) -> None:
        # Once, since to walk through a module takes a small network a noticeable share of its step.
        self._parameters = list(module.parameters())
        self._parametrizations = [part for part in module.modules() if isinstance(part, ParametrizationList)]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """One such block."""
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        iterating = [part for part in self._parametrizations if part.training]
        for parameter in trained:
            parameter.requires_grad_(False)
        for part in iterating:
            part.eval()
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            for part in iterating:
                part.train()


def frozen(module: nn.Module) -> AbstractContextManager[None]:
    """A block in which the module is frozen, see `Freezer`."""
    return Freezer(module).frozen()


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """The module and all its parts are in evaluation mode in this block; afterward each is as it was."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, was in training.items():
            part.training = was


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy that is evaluated, never trained."""
    return deepcopy(module).eval().requires_grad_(False)


def synchronized(
    generator: nn.Module, discriminator: nn.Module, device: torch.device, regularizers: Mapping[str, Regularizer]
) -> tuple[nn.Module, nn.Module]:
    """Both networks, with batch normalization over the batches of all ranks.

    Raises ConfigError where torch has none: on the CPU, and under penalties that differentiate twice through it.
    """
    normalized = [
        module
        for module in (generator, discriminator)
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
    ]
    for label, each in regularizers.items():
        through = (discriminator,) if each.player == "discriminator" else (generator, discriminator)
        twice = each.differentiates or each.per_sample or each.whole_batch
        if twice and any(module in normalized for module in through):
            raise ConfigError(
                f"synchronized batch normalization cannot be differentiated twice, as regularizer {label!r} asks",
                "--set training.sync_batchnorm=false, or choose networks without batch normalization",
            )
    if normalized and device.type != "cuda":
        raise ConfigError(
            f"synchronized batch normalization takes CUDA; the device is {device.type}",
            "--set training.sync_batchnorm=false",
        )
    converted = map(nn.SyncBatchNorm.convert_sync_batchnorm, (generator, discriminator))
    return next(converted), next(converted)


def tensors_of(output: Output) -> dict[str, Tensor]:
    """All that a discriminator returned, by the names that people are told."""
    features = {f"features[{place}]": feature for place, feature in enumerate(output.features)}
    return {"logits": output.logits, **features, **{f"heads[{key!r}]": head for key, head in output.heads.items()}}


def is_loss(value: object, images: Tensor) -> TypeGuard[Tensor]:
    """Whether it can be minimized: a real scalar with a gradient, where the images are."""
    if not isinstance(value, Tensor) or value.ndim or value.is_complex():
        return False
    return value.requires_grad and value.device == images.device


def checked_loss(player: str, value: object, images: Tensor) -> Tensor:
    """What a loss returned in a player's step. Raises PluginError when it cannot be minimized."""
    if not is_loss(value, images):
        raise PluginError(
            f"a loss must return a scalar tensor with a gradient, on {images.device}, in the {player}'s step; received "
            f"{described(value)}"
        )
    return value


def described(value: object) -> str:
    """What was received in place of a tensor of the right form, in words."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    gradient = "" if value.requires_grad or not value.is_floating_point() else ", without a gradient"
    return f"shape {tuple(value.shape)}, {value.dtype}, on {value.device}{gradient}"
