"""A rehearsal before the first step: do networks, loss and data fit each other, and does D mix its samples?"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from gancore.config import LatentSettings
from gancore.contracts import Objective, Output
from gancore.data import Feed
from gancore.errors import ConfigError, PluginError, blamed
from gancore.players import call, frozen, judge, output_of
from gancore.randomness import seeded

_COUNT = 4
T = TypeVar("T")


def rehearse(
    generator: nn.Module,
    discriminator: nn.Module,
    objective: Objective,
    feed: Feed,
    latent: LatentSettings,
    num_classes: int | None,
) -> bool:
    """Runs tiny batches through copies of networks and loss, which stay as they were. True when D mixes samples.

    Raises PluginError when one of them fails, or gives what the contract does not promise; ConfigError when a network
    fails on the short last batch of an epoch alone.
    """
    device = feed.device
    with seeded(0, device):
        labels = None if num_classes is None else torch.arange(_COUNT, device=device) % num_classes
        noise = torch.randn(_COUNT, latent.dim, device=device)
        fakes = _generated(_copy("generator", generator), noise, labels, feed)
        first = torch.rand(_COUNT, *feed.shape, device=device) * 2 - 1
        second = torch.rand(_COUNT, *feed.shape, device=device) * 0.6 + 0.1  # of another mean and spread than the first
        mixes = _mixes(_copy("discriminator", discriminator), first, second, labels)
        _rehearse_loss(objective, discriminator, first, fakes, noise, labels)

        rest = feed.size % feed.batch_size or feed.batch_size
        if rest < _COUNT:
            few = None if labels is None else labels[:rest]
            try:
                _generated(_copy("generator", generator), noise[:rest], few, feed)
                seen = first[:rest] if mixes else torch.cat([first[:rest], second[:rest]])
                twice = few if mixes or few is None else torch.cat([few, few])
                _judged(_copy("discriminator", discriminator), seen, twice)
            except PluginError as error:
                raise ConfigError(
                    f"batch_size {feed.batch_size} leaves a last batch of {rest} of {feed.size} images, and {error}",
                    "choose a batch_size that leaves a larger rest, or none",
                ) from error
    return mixes


def _generated(generator: nn.Module, noise: Tensor, labels: Tensor | None, feed: Feed) -> Tensor:
    with blamed("generator"):
        images = call(generator, noise, labels)
    expected = (len(noise), *feed.shape)
    if not isinstance(images, Tensor) or images.shape != expected or not images.is_floating_point():
        raise PluginError(
            f"a generator must return floating point images of shape {expected} for latents of shape "
            f"{tuple(noise.shape)}; received {_described(images)}"
        )
    if not images.requires_grad:
        raise PluginError("a generator's images must carry a gradient; these are detached from its parameters")
    return images


def _judged(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> Output:
    with blamed("discriminator"):
        output = output_of(call(discriminator, images, labels))
    logits = output.logits
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images) or 0 in logits.shape:
        raise PluginError(
            f"a discriminator must return logits (N, K) with K >= 1, or an Output, for N = {len(images)} images; "
            f"received {_described(logits)}"
        )
    for name, tensor in _parts(output).items():
        if not isinstance(tensor, Tensor) or tensor.shape[:1] != (len(images),):
            raise PluginError(
                f"{name} of a discriminator must begin with N = {len(images)}; received {_described(tensor)}"
            )
    return output


def _parts(output: Output) -> dict[str, Tensor]:
    features = {f"features[{place}]": feature for place, feature in enumerate(output.features)}
    return {"logits": output.logits, **features, **{f"heads[{key!r}]": head for key, head in output.heads.items()}}


@torch.no_grad()
def _mixes(discriminator: nn.Module, first: Tensor, second: Tensor, labels: Tensor | None) -> bool:
    """Whether it makes a difference that two batches are seen in one pass: to the outputs, or to D's buffers."""
    for parameter in discriminator.parameters():  # a network that begins at zero would hide what it does
        parameter.add_(torch.randn_like(parameter) * 0.02)
    other = _copy("discriminator", discriminator)
    twice = None if labels is None else torch.cat([labels, labels])
    joined = _parts(_judged(discriminator, torch.cat([first, second]), twice))
    halves = [_parts(_judged(other, part, labels)) for part in (first, second)]
    for name, whole in joined.items():
        apart = torch.cat([half[name] for half in halves])
        if not torch.allclose(whole, apart, rtol=1e-3, atol=1e-3 * float(whole.abs().max()) + 1e-12):
            return True
    # Statistics and power iterations move with every pass.
    return any(not torch.equal(*pair) for pair in zip(discriminator.buffers(), other.buffers(), strict=True))


def _rehearse_loss(
    objective: Objective, discriminator: nn.Module, real: Tensor, fake: Tensor, latent: Tensor, labels: Tensor | None
) -> None:
    objective, discriminator = _copy("loss", objective), _copy("discriminator", discriminator)

    def discriminators_step() -> object:
        seen, made = judge(discriminator, real, None, labels), judge(discriminator, fake.detach(), latent, labels)
        with blamed("loss"):
            return objective.discriminator(seen, made)

    def generators_step() -> object:
        with frozen(discriminator):
            with torch.no_grad():
                seen = judge(discriminator, real, None, labels) if objective.needs_real else None
            made = judge(discriminator, fake, latent, labels)
            with blamed("loss"):
                return objective.generator(made, seen)

    for role, loss in (("discriminator", discriminators_step()), ("generator", generators_step())):
        if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
            raise PluginError(
                f"a loss must return a scalar tensor with a gradient in the {role}'s step; received {_described(loss)}"
            )


def _copy(role: str, part: T) -> T:
    """A copy to try things on; whatever a module holds must be copyable and, in its state, tensors."""
    if isinstance(part, nn.Module):
        with blamed(role):
            strange = [key for key, value in part.state_dict().items() if not isinstance(value, Tensor)]
        if strange:
            raise PluginError(f"the state of the {role} must be tensors, to be saved; {strange[0]!r} is not one")
    with blamed(f"copy of the {role}"):
        return deepcopy(part)


def _described(value: object) -> str:
    return f"shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
