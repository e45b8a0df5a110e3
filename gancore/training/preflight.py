"""A rehearsal before the first step: do networks, loss and data fit each other, and does D mix its samples?"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from gancore.checkpoint.state import check_module
from gancore.config.run import LatentSettings
from gancore.contracts import Objective, Output, Player, Scores
from gancore.data.feed import Feed
from gancore.errors import ConfigError, PluginError, blame
from gancore.training.augmentations import AugmentedDiscriminator
from gancore.training.networks import call, checked_loss, described, frozen, judge, output_of, tensors_of
from gancore.training.regularizers import ActiveRegularizers
from gancore.utils.random import seeded

COUNT = 4
"""Images in a batch of the rehearsal."""
T = TypeVar("T")


def run_preflight(
    generator: nn.Module,
    critic: AugmentedDiscriminator,
    objective: Objective,
    turns: Mapping[Player, ActiveRegularizers],
    feed: Feed,
    latent: LatentSettings,
    num_classes: int | None,
    *,
    accumulates: bool = False,
) -> bool:
    """Runs tiny batches through copies of all parts, which stay as they were. True when D mixes samples.

    `turns` hold every regularizer of a player. Raises PluginError when a part fails, or gives what the contract does
    not promise; ConfigError when a network fails on the short last batch of an epoch alone, when D is none that a
    regularizer can take, and when gradients are to be accumulated over parts of a batch that have a say in each other.
    """
    device, discriminator = feed.device, critic.discriminator
    for role, part in _parts_of(generator, critic, objective, turns).items():
        if isinstance(part, nn.Module):
            check_module(role, part)
    with seeded(0, device):
        labels = None if num_classes is None else torch.arange(COUNT, device=device) % num_classes
        noise = torch.randn(COUNT, latent.dim, device=device)
        fakes = _generated(_copy("generator", generator), noise, labels, feed)
        first = torch.rand(COUNT, *feed.shape, device=device) * 2 - 1
        second = torch.rand(COUNT, *feed.shape, device=device) * 0.6 + 0.1  # of another mean and spread than the first
        _check_way_back(_copy("discriminator", discriminator), fakes, labels)
        mixes = mixes_samples(discriminator, first, second, labels)
        _rehearse_updates(objective, critic, turns, first, fakes, noise, labels)
        strict = [due.label for turn in turns.values() for due in turn.due if due.component.per_sample]
        if strict and _leaks("discriminator", discriminator, first, second, labels):
            raise ConfigError(
                f"regularizer {strict[0]!r} takes a discriminator whose verdict on an image is about this image alone; "
                "in this one the rest of the batch has a say (batch normalization, minibatch statistics)",
                "choose a discriminator without these, or another regularizer, such as r1",
            )
        if accumulates:
            other = torch.randn_like(noise) * 0.3 + 0.5
            leaks = {
                "discriminator": _leaks("discriminator", discriminator, first, second, labels),
                "generator": _leaks("generator", generator, noise, other, labels),
                "loss": _is_of_the_whole_batch(objective, discriminator, first, second, noise, labels),
                "regularizer": any(due.component.whole_batch for turn in turns.values() for due in turn.due),
            }
            for part in (part for part, leaking in leaks.items() if leaking):
                raise ConfigError(
                    f"training.accumulate takes a batch apart, which must change nothing; in this {part} the images "
                    "of a batch have a say in each other (batch statistics, averages over the batch)",
                    "leave training.accumulate out and choose a smaller batch_size, or other parts",
                )

        rest = feed.least
        if rest < COUNT:
            few = None if labels is None else labels[:rest]
            shared = "" if rest == (feed.size % feed.batch_size or feed.batch_size) else " for one process"
            try:
                _generated(_copy("generator", generator), noise[:rest], few, feed)
                seen = first[:rest] if mixes else torch.cat([first[:rest], second[:rest]])
                twice = few if mixes or few is None else torch.cat([few, few])
                _judged(_copy("discriminator", discriminator), seen, twice)
            except PluginError as error:
                raise ConfigError(
                    f"batch_size {feed.batch_size} leaves a last batch of {rest} of {feed.size} images{shared}, and "
                    f"{error}",
                    "choose a batch_size that leaves a larger rest, or none",
                ) from error
    return mixes


def _parts_of(
    generator: nn.Module,
    critic: AugmentedDiscriminator,
    objective: Objective,
    turns: Mapping[Player, ActiveRegularizers],
) -> dict[str, object]:
    """What may hold state, as errors name it."""
    regularizers = {f"regularizer {due.label!r}": due.working for turn in turns.values() for due in turn.due}
    augmentations = {f"augmentation {stage.label!r}": stage.working for stage in critic.augmentations}
    networks = {"generator": generator, "discriminator": critic.discriminator, "loss": objective}
    return {**networks, **regularizers, **augmentations}


def _generated(generator: nn.Module, noise: Tensor, labels: Tensor | None, feed: Feed) -> Tensor:
    with blame("generator", "in forward()"):
        images = call(generator, noise, labels)
        expected = (len(noise), *feed.shape)
        if not isinstance(images, Tensor) or images.shape != expected or not _is_like(noise, images):
            raise PluginError(
                f"a generator must return images of shape {expected}, {noise.dtype}, on {noise.device}, for latents of "
                f"shape {tuple(noise.shape)}; received {described(images)}"
            )
        if not images.requires_grad:
            raise PluginError("a generator's images must carry a gradient; these are detached from its parameters")
    return images


def _is_like(given: Tensor, made: Tensor) -> bool:
    return made.dtype == given.dtype and made.device == given.device


def _judged(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> Output:
    with blame("discriminator", "in forward()"):
        output = output_of(call(discriminator, images, labels))
        logits = output.logits
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images) or 0 in logits.shape:
            raise PluginError(
                f"a discriminator must return logits (N, K) with K >= 1, or an Output, for N = {len(images)} images; "
                f"received {described(logits)}"
            )
        if not logits.is_floating_point() or logits.device != images.device:
            raise PluginError(
                f"a discriminator's logits must be floating point, on {images.device}; received {described(logits)}"
            )
        for name, tensor in tensors_of(output).items():
            if not isinstance(tensor, Tensor) or tensor.shape[:1] != (len(images),) or tensor.device != images.device:
                raise PluginError(
                    f"{name} of a discriminator must begin with N = {len(images)}, on {images.device}; received "
                    f"{described(tensor)}"
                )
    return output


def _check_way_back(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> None:
    """D's logits must depend on its parameters, for its own step, and on the images, for G's."""
    images = images.detach().requires_grad_()
    weights = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    with blame("discriminator", "when the gradient of its logits was taken"):
        logits = _judged(discriminator, images, labels).logits
        ways: list[Tensor | None] = [None]
        if logits.requires_grad:
            ways = list(torch.autograd.grad(logits.sum(), [images, *weights], allow_unused=True))
        for way, what in ((ways[1:], "its parameters"), (ways[:1], "the images")):
            if all(gradient is None for gradient in way):
                raise PluginError(f"a discriminator's logits must carry a gradient; these are detached from {what}")


@torch.no_grad()
def mixes_samples(discriminator: nn.Module, first: Tensor, second: Tensor, labels: Tensor | None) -> bool:
    """Whether it makes a difference that two batches are seen in one pass: to the outputs, or to D's buffers.

    `labels` are those of either batch. A copy is asked, so that D stays as it is.
    """
    discriminator = _copy("discriminator", discriminator)
    for parameter in discriminator.parameters():  # a network that begins at zero would hide what it does
        parameter.add_(torch.randn_like(parameter) * 0.02)
    other = _copy("discriminator", discriminator)
    twice = None if labels is None else torch.cat([labels, labels])
    joined = tensors_of(_judged(discriminator, torch.cat([first, second]), twice))
    with cached():  # as in a step, where power iterations go by updates, not by passes
        halves = [tensors_of(_judged(other, part, labels)) for part in (first, second)]
    for name, whole in joined.items():
        apart = torch.cat([half[name] for half in halves])
        if _differ(whole, apart):
            return True
    # Statistics move with every pass.
    return any(not torch.equal(*pair) for pair in zip(discriminator.buffers(), other.buffers(), strict=True))


def _leaks(role: str, network: nn.Module, first: Tensor, second: Tensor, labels: Tensor | None) -> bool:
    """Whether what a network gives for one item of a batch depends on the others."""
    network = _copy(role, network)
    for parameter in network.parameters():  # as in `mixes_samples`
        parameter.data.add_(torch.randn_like(parameter) * 0.02)

    def given(others: Tensor) -> Tensor:
        with seeded(0, first.device), torch.no_grad(), blame(role, "in forward()"):  # the same units are dropped
            return output_of(call(_copy(role, network), torch.cat([first[:1], others[1:]]), labels)).logits[0]

    return _differ(given(first), given(second))


def _is_of_the_whole_batch(
    objective: Objective, discriminator: nn.Module, real: Tensor, fake: Tensor, latent: Tensor, labels: Tensor | None
) -> bool:
    """Whether a loss of the batch is another than the mean of those of its halves."""
    discriminator, half = _copy("discriminator", discriminator), len(real) // 2
    with torch.no_grad():
        seen = [judge(discriminator, real, None, labels), judge(discriminator, fake, latent, labels)]
    # A young network says nearly the same of all images, which would hide an average.
    seen = [replace(scores, logits=scores.logits + 3 * torch.randn_like(scores.logits)) for scores in seen]
    halves = [(_taken(seen[0], part), _taken(seen[1], part)) for part in (slice(half), slice(half, None))]

    def losses(real: Scores, fake: Scores) -> Tensor:
        working = _copy("loss", objective)
        with blame("loss", "at work"):
            of_generator = working.generator(fake, real if working.needs_real else None)
            return torch.stack([working.discriminator(real, fake), of_generator])

    return _differ(losses(*seen), (losses(*halves[0]) + losses(*halves[1])) / 2)


def _taken(scores: Scores, part: slice) -> Scores:
    """What was said of some of the images."""
    return replace(
        scores,
        images=scores.images[part],
        logits=scores.logits[part],
        labels=None if scores.labels is None else scores.labels[part],
        latent=None if scores.latent is None else scores.latent[part],
        features=tuple(feature[part] for feature in scores.features),
        heads={name: head[part] for name, head in scores.heads.items()},
    )


def _differ(here: Tensor, there: Tensor) -> bool:
    """By more than rounding can explain. What is not finite is the same: the first step tells of it."""
    here, there = here.double(), there.double()  # heads may be of any type
    scale = float(here.abs().nan_to_num(0, 0, 0).max())
    return not torch.allclose(here, there, rtol=1e-3, atol=1e-3 * scale + 1e-12, equal_nan=True)


def _rehearse_updates(
    objective: Objective,
    critic: AugmentedDiscriminator,
    turns: Mapping[Player, ActiveRegularizers],
    real: Tensor,
    fake: Tensor,
    latent: Tensor,
    labels: Tensor | None,
) -> None:
    """Loss and penalties of both players' updates, and the gradients of these."""
    # Together, since augmentations may watch what the loss is told.
    objective, critic, turns = _copy("loss", objective), _copy("augmentations", critic), _copy("regularizers", turns)

    def discriminators_step() -> None:
        turn = turns["discriminator"]
        seen = judge(critic, turn.leaf("real", real), None, labels)
        made = judge(critic, turn.leaf("fake", fake.detach()), latent, labels)
        with blame("loss", "in discriminator()"):
            loss = checked_loss("discriminator", objective.discriminator(seen, made), real)
        _descend("discriminator", loss, turn.penalties(critic.critic, seen, made))
        turn.project(critic.discriminator)
        critic.observe(seen)

    def generators_step() -> None:
        turn = turns["generator"]
        with frozen(critic.discriminator):
            needed = objective.needs_real or bool(turn.due)
            seen = judge(critic, turn.leaf("real", real), None, labels) if needed else None
            made = judge(critic, fake, latent, labels)
            with blame("loss", "in generator()"):
                loss = checked_loss("generator", objective.generator(made, seen), real)
            _descend("generator", loss, {} if seen is None else turn.penalties(critic.critic, seen, made))

    discriminators_step()
    generators_step()


def _descend(role: str, loss: Tensor, penalties: Mapping[str, Tensor]) -> None:
    """Finds out whether all gradients can be had, even of a gradient; what is computed goes to a copy."""
    for what, terms in (("loss", [loss]), ("penalties", penalties.values())):
        with blame(f"gradient of the {what} in the {role}'s step"):
            for term in terms:
                term.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _copy(role: str, part: T) -> T:
    """A copy to try things on."""
    with blame(role, "when it was copied"):
        return deepcopy(part)
