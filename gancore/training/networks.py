"""Helpers for both networks: calling them, reading the output of D, and temporary modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from gancore.config.run import LatentSettings
from gancore.contracts import Output, Scores, mean_of_batch
from gancore.errors import PluginError, blame

Network = Callable[..., Any]
"""A network, or a wrapper around one: called with a batch, and with its labels in a conditional run."""
Mean = Callable[[Tensor], Tensor]
"""Takes the mean (…) of values (n, …) over the whole batch."""


def draw_latent(settings: LatentSettings, count: int, generator: torch.Generator) -> Tensor:
    """Return latents (count, Z) on the device of the generator, drawn from its stream."""
    size = (count, settings.dim)
    if settings.distribution == "normal":
        return torch.randn(size, generator=generator, device=generator.device)
    return torch.rand(size, generator=generator, device=generator.device).mul_(2).sub_(1)


def call(network: Network, batch: Tensor, labels: Tensor | None) -> Any:  # Any: images, logits, or an Output
    """Call a network; labels are an argument only in a conditional run."""
    return network(batch) if labels is None else network(batch, labels)


def output_of(returned: object) -> Output:
    """Return what a discriminator returned, bare logits or not, as an `Output`."""
    return returned if isinstance(returned, Output) else Output(returned)  # type: ignore[arg-type]  # the preflight checked


def score(
    discriminator: Network, images: Tensor, latent: Tensor | None, labels: Tensor | None, mean: Mean = mean_of_batch
) -> Scores:
    """Return D's scores of images (n, *shape); `latent` (n, Z) of fakes, None for real images."""
    try:
        output = call(discriminator, images, labels)
    except BaseException:
        with blame("discriminator", "in forward()"):
            raise
    return scores_of(output, slice(None), images, latent, labels, mean)


def scores_of(
    output: object, rows: slice, images: Tensor, latent: Tensor | None, labels: Tensor | None, mean: Mean
) -> Scores:
    """Return the scores of the images in these rows of what D returned, in float32 or better."""
    if not isinstance(output, Output):
        logits = at_least_float32(output)[rows]  # type: ignore[arg-type]  # the preflight checked
        return Scores(images=images, logits=logits, labels=labels, latent=latent, mean=mean)
    return Scores(
        images=images,
        logits=at_least_float32(output.logits[rows]),
        labels=labels,
        latent=latent,
        features=tuple([at_least_float32(feature[rows]) for feature in output.features]),
        heads={name: at_least_float32(head[rows]) for name, head in output.heads.items()},
        mean=mean,
    )


def concat_scores(parts: Sequence[Scores]) -> Scores:
    """Return the scores of the micro-batches of one batch, as if it had been scored at once."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Scores(
        images=torch.cat([part.images for part in parts]),
        logits=torch.cat([part.logits for part in parts]),
        labels=_concat([part.labels for part in parts]),
        latent=_concat([part.latent for part in parts]),
        features=tuple(torch.cat(same) for same in zip(*(part.features for part in parts), strict=True)),
        heads={name: torch.cat([part.heads[name] for part in parts]) for name in first.heads},
    )


def _concat(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None


def at_least_float32(values: Tensor) -> Tensor:
    """Return values in the precision losses are computed in; integers and booleans stay as they are."""
    if values.dtype == torch.float32 or not values.is_floating_point():
        return values
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Freezer:
    """Freezes a module in a block: no parameter collects a gradient, and spectral normalization does not iterate.

    After a block each parameter has the `requires_grad` it had before. The singular vectors of spectral normalization
    belong to the updates of the module itself.
    """

    def __init__(self, module: nn.Module) -> None:
        # Collected once: walking through a small network takes a noticeable share of its step.
        self._parameters = list(module.parameters())
        self._parametrizations = [part for part in module.modules() if isinstance(part, ParametrizationList)]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the module for the block."""
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        iterating = [part for part in self._parametrizations if part.training] if self._parametrizations else ()
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


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put the module and all its parts in evaluation mode for the block; afterward each is in its own mode again."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


def tensors_of(output: Output) -> dict[str, Tensor]:
    """Return all tensors of an `Output` by the names that messages use."""
    features = {f"features[{index}]": feature for index, feature in enumerate(output.features)}
    return {"logits": output.logits, **features, **{f"heads[{key!r}]": head for key, head in output.heads.items()}}


def is_loss(value: object, images: Tensor) -> TypeGuard[Tensor]:
    """Return whether the value can be minimized: a real scalar tensor with a gradient, on the device of the images."""
    if not isinstance(value, Tensor) or value.ndim or value.is_complex():
        return False
    return value.requires_grad and value.device == images.device


def checked_loss(player: str, value: object, images: Tensor) -> Tensor:
    """Return what a loss returned in a player's update. Raises PluginError if it cannot be minimized."""
    if not is_loss(value, images):
        raise PluginError(
            f"a loss must return a scalar tensor with a gradient, on {images.device}, in the {player}'s step; received "
            f"{describe_tensor(value)}"
        )
    return value


def describe_tensor(value: object) -> str:
    """Describe a value received in place of a valid tensor."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    gradient = "" if value.requires_grad or not value.is_floating_point() else ", without a gradient"
    return f"shape {tuple(value.shape)}, {value.dtype}, on {value.device}{gradient}"
