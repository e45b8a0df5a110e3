"""Helpers for both networks: calling them, reading the output of D, and temporary modes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from gancore.config.run import LatentSettings
from gancore.contracts import NO_PLAYERS, Generated, Output, Players, Scores, mean_of_batch
from gancore.errors import PluginError, blame

Network = Callable[..., Any]
"""A network, or a wrapper around one: called with a batch, and with its condition in a conditional run."""
Extras = Mapping[str, Tensor]
"""Further tensors (n, …) of each sample by name; see `contracts.Generated`."""
NO_EXTRAS: Extras = {}
Mean = Callable[[Tensor], Tensor]
"""Takes the mean (…) of values (n, …) over the whole batch."""


def draw_latent(settings: LatentSettings, count: int, generator: torch.Generator) -> Tensor:
    """Return latents (count, Z) on the device of the generator, drawn from its stream."""
    size = (count, settings.dim)
    if settings.distribution == "normal":
        return torch.randn(size, generator=generator, device=generator.device)
    return torch.rand(size, generator=generator, device=generator.device).mul_(2).sub_(1)


def call(network: Network, batch: Tensor, condition: Tensor | None, extras: Extras = NO_EXTRAS) -> Any:  # Any: below
    """Call a network; the condition is an argument only in a conditional run. G returns images, D logits, or more."""
    return network(batch, **extras) if condition is None else network(batch, condition, **extras)


def generated_of(returned: object) -> Generated:
    """Return what a generator returned, bare images or not, as `Generated` in float32 or better."""
    if not isinstance(returned, Generated):
        return Generated(at_least_float32(returned), NO_EXTRAS)  # type: ignore[arg-type]  # the preflight checked
    extras = {name: at_least_float32(extra) for name, extra in returned.extras.items()}
    return Generated(at_least_float32(returned.images), extras)


def encode(generator: nn.Module, images: Tensor, condition: Tensor | None) -> Extras:
    """Return what G's `encode` makes of images (N, *shape): extras by name, in float32 or better.

    Raises PluginError for a generator without `encode`, and for extras that are not tensors (N, …).
    """
    method: Network | None = getattr(generator, "encode", None)
    if method is None:
        raise PluginError(
            "the loss, a regularizer or the discriminator needs extras of real images, and the generator has no method "
            "`encode`",
            "add encode(images), which returns tensors by name, or choose a generator that has it",
        )
    with blame("generator", "in encode()"):
        extras = call(method, images, condition)
        check_extras(extras, images)
        return {name: at_least_float32(extra) for name, extra in extras.items()}


def check_extras(extras: object, images: Tensor) -> None:
    """Raise PluginError unless extras are tensors (N, …) by name, on the device of the images (N, …)."""
    if not isinstance(extras, Mapping):
        raise PluginError(f"extras of a generator must be tensors by name; received {type(extras).__name__}")
    for name, extra in extras.items():
        if not isinstance(extra, Tensor) or extra.shape[:1] != images.shape[:1] or extra.device != images.device:
            raise PluginError(
                f"extra {name!r} of a generator must begin with N = {len(images)}, on {images.device}; received "
                f"{describe_tensor(extra)}"
            )


def received_extras(names: Sequence[str], extras: Extras) -> Extras:
    """Return the extras that D receives, those of its `extra_inputs`. Raises PluginError if one is missing."""
    if isinstance(names, str):
        raise PluginError(
            f"extra_inputs of a discriminator must be a tuple of names; received {names!r}",
            f"set extra_inputs = ({names!r},)",
        )
    if missing := [name for name in names if name not in extras]:
        raise PluginError(
            f"the discriminator's extra_inputs name {missing[0]!r}, which it does not get; there are {sorted(extras)}",
            "return it in the extras of Generated and of the generator's encode(), or choose another discriminator",
        )
    return {name: extras[name] for name in names}


def output_of(returned: object) -> Output:
    """Return what a discriminator returned, bare logits or not, as an `Output`."""
    return returned if isinstance(returned, Output) else Output(returned)  # type: ignore[arg-type]  # the preflight checked


def checked_output(returned: object, images: Tensor) -> Output:
    """Return what a discriminator returned for images (N, *shape). Raises PluginError if it breaks the contract."""
    output = output_of(returned)
    logits = output.logits
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images) or 0 in logits.shape:
        raise PluginError(
            f"a discriminator must return logits (N, K) with K >= 1, or an Output, for N = {len(images)} images; "
            f"received {describe_tensor(logits)}",
            _how_to_reshape(logits, len(images)),
        )
    if not logits.is_floating_point() or logits.device != images.device:
        raise PluginError(
            f"a discriminator's logits must be floating point, on {images.device}; received {describe_tensor(logits)}"
        )
    for name, tensor in tensors_of(output).items():
        if not isinstance(tensor, Tensor) or tensor.shape[:1] != (len(images),) or tensor.device != images.device:
            raise PluginError(
                f"{name} of a discriminator must begin with N = {len(images)}, on {images.device}; received "
                f"{describe_tensor(tensor)}"
            )
    return output


def _how_to_reshape(logits: object, count: int) -> str:
    """Return how to make logits (N, K) of what a discriminator returned; empty if that is not clear."""
    if isinstance(logits, tuple | list) and logits and isinstance(logits[0], Tensor):
        return "return gancore.Output(logits, features=..., heads=...) in place of a tuple"
    if not isinstance(logits, Tensor) or logits.shape[:1] != (count,):
        return ""
    return "end with .unsqueeze(1): one logit per image" if logits.ndim == 1 else "end with .flatten(1)"


@dataclass(slots=True)
class ScoreInputs:
    """What is known of a batch before D scores it; the fields are those of `Scores`."""

    images: Tensor
    condition: Tensor | None = None
    latent: Tensor | None = None
    extras: Extras = field(default_factory=dict)
    players: Players = field(default_factory=lambda: NO_PLAYERS)
    mean: Mean = mean_of_batch


def scores_of(returned: object, inputs: ScoreInputs) -> Scores:
    """Return the scores of images for which D returned bare logits or an `Output`, in float32 or better."""
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = {}
    if isinstance(returned, Output):
        logits = at_least_float32(returned.logits)
        features = tuple([at_least_float32(feature) for feature in returned.features])
        heads = {name: at_least_float32(head) for name, head in returned.heads.items()}
    else:
        logits = at_least_float32(returned)  # type: ignore[arg-type]  # the preflight checked
    return Scores(
        images=inputs.images,
        logits=logits,
        condition=inputs.condition,
        latent=inputs.latent,
        features=features,
        heads=heads,
        extras=inputs.extras,
        players=inputs.players,
        mean=inputs.mean,
    )


def halves_of(returned: object) -> tuple[object, object]:
    """Return what D returned for 2n images as what it returned for the first n and for the last n."""
    if not isinstance(returned, Output):
        return _halves(returned)  # type: ignore[arg-type]  # the preflight checked
    # Features are large, so they are not copied: they are views, which autograd does not let a loss change in place.
    chunks = [torch.chunk(at_least_float32(feature), 2) for feature in returned.features]
    features = tuple(zip(*chunks, strict=True)) or ((), ())
    heads = {name: _halves(head) for name, head in returned.heads.items()}
    first, last = (
        Output(logits, features[half], {name: pair[half] for name, pair in heads.items()})
        for half, logits in enumerate(_halves(returned.logits))
    )
    return first, last


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    # Converted at once, then split: the gradient is one tensor, where two slices would give a sum of two padded ones.
    # A loss may change a half in place. Autograd refuses that for views, so the halves are not views, and the clone
    # keeps the loss from changing what D's last layer has saved.
    converted = at_least_float32(values)
    first, last = torch.unsafe_chunk(converted.clone() if converted is values else converted, 2)
    return first, last


def concat_scores(parts: Sequence[Scores]) -> Scores:
    """Return the scores of the micro-batches of one batch, as if it had been scored at once."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Scores(
        images=torch.cat([part.images for part in parts]),
        logits=torch.cat([part.logits for part in parts]),
        condition=_concat([part.condition for part in parts]),
        latent=_concat([part.latent for part in parts]),
        features=tuple(torch.cat(same) for same in zip(*(part.features for part in parts), strict=True)),
        heads={name: torch.cat([part.heads[name] for part in parts]) for name in first.heads},
        extras={name: torch.cat([part.extras[name] for part in parts]) for name in first.extras},
        players=first.players,
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
    """Freezes modules in a block: no parameter collects a gradient, and spectral normalization does not iterate.

    After a block each parameter has the `requires_grad` it had before. The singular vectors of spectral normalization
    belong to the updates of the modules themselves.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        # Collected once: walking through a small network takes a noticeable share of its step.
        modules = list(modules)
        self._parameters = [parameter for module in modules for parameter in module.parameters()]
        parts = (part for module in modules for part in module.modules())
        self._parametrizations = [part for part in parts if isinstance(part, ParametrizationList)]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the modules for the block."""
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
