"""The preflight check before the first step: do networks, loss and data fit each other, and does D mix samples?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn, optim

from gancore.checkpoint.state import check_module
from gancore.contracts import Condition, Generated
from gancore.data.feed import Batch, Feed
from gancore.distributed.ranks import SINGLE_RANK
from gancore.errors import ConfigError, NonFiniteError, PluginError, blame, describe_error
from gancore.training.finite import FiniteCheck
from gancore.training.micro_batch import MicroBatch
from gancore.training.mixing import (
    COUNT,
    TrialInputs,
    copy_of,
    depends_on_batch,
    detached,
    differs_in_one_pass,
    needs_whole_batch,
    score_trial,
    twice,
)
from gancore.training.networks import call, check_extras, describe_tensor, received_extras
from gancore.training.preflight_hints import latent_hint, shape_hint
from gancore.training.preflight_warnings import preflight_warnings, untrained_warnings
from gancore.training.regularizers import NO_REGULARIZERS
from gancore.training.state import TrainingState
from gancore.training.step import step
from gancore.utils.random import seeded

if TYPE_CHECKING:
    from gancore.training.gan import GAN

T = TypeVar("T")


@dataclass(frozen=True)
class Preflight:
    """Result of the preflight: whether D mixes samples, and warnings."""

    mixes_samples: bool
    warnings: tuple[str, ...]


def run_preflight(gan: GAN) -> Preflight:
    """Run tiny batches through copies of all parts, which stay as they were.

    Raises PluginError if a part fails, its output breaks the contract, or it has parameters that its update would not
    train; ConfigError if a network fails only on the short last batch of an epoch, if a regularizer does not support
    D, and if gradients are to be accumulated over micro-batches although the images of a batch depend on each other.
    """
    for role, part in _parts_of(gan).items():
        if isinstance(part, nn.Module):
            check_module(role, part)
    with seeded(0, gan.device), torch.enable_grad():
        images, inputs = _trial_batch(gan, COUNT)
        _check_gradients(copy_of("discriminator", gan.discriminator), images, inputs)
        mixes = differs_in_one_pass(gan.discriminator, inputs)
        warnings = [*preflight_warnings(gan, inputs), *_try_step(gan, inputs)]
        _check_regularizers(gan, inputs)
        if gan.options.training.accumulate > 1:
            _check_accumulation(gan, inputs)
        if gan.feed.size % gan.feed.batch_size or gan.feed.smallest_part < COUNT:
            _check_last_batch(gan, mixes=mixes)
    return Preflight(mixes, tuple(warnings))


def trial_condition(condition: Condition | None, device: torch.device, count: int = COUNT) -> Tensor | None:
    """Return a condition for each of `count` images, None unless the run is conditional."""
    if condition is None:
        return None
    if isinstance(condition, int):
        return torch.arange(count, device=device) % condition
    return torch.rand(count, *condition, device=device) * 2 - 1


def _trial_batch(gan: GAN, count: int) -> tuple[Tensor, TrialInputs]:
    """Return `count` images (N, C, H, W) that a copy of G makes, and inputs of as many items for the other checks."""
    device, shape = gan.device, gan.feed.shape
    condition = trial_condition(gan.spec.condition, device, count)
    latent = torch.randn(count, gan.options.latent.dim, device=device)
    made = _generate(copy_of("generator", gan.generator), latent, condition, gan.feed)
    first = torch.rand(count, *shape, device=device) * 2 - 1
    second = torch.rand(count, *shape, device=device) * 0.6 + 0.1
    extra_inputs = getattr(gan.discriminator, "extra_inputs", ())
    with blame("discriminator", "when its extra inputs were collected"):
        received = received_extras(extra_inputs, {name: extra.detach() for name, extra in made.extras.items()})
    return made.images, TrialInputs(latent, first, second, condition, received)


def _parts_of(gan: GAN) -> dict[str, object]:
    """Return all parts that may hold state, by the names that errors use."""
    return {
        "generator": gan.generator,
        "discriminator": gan.discriminator,
        "loss": gan.loss.objective,
        **{f"regularizer {label!r}": penalty for label, penalty in gan.penalties.items()},
        **{f"augmentation {label!r}": augment for label, augment in gan.augments.items()},
    }


def _try_step(gan: GAN, inputs: TrialInputs) -> tuple[str, ...]:
    """Make one training step on a trial copy, check that it trains what it should, and return warnings.

    The first step of the run reports numbers that are not finite.
    """
    trial = preflight_copy(gan)
    _check_owners(trial)
    with suppress(NonFiniteError):
        step(trial, [Batch(inputs.first, inputs.condition, COUNT)])
        _check_trained(trial)
        return tuple(untrained_warnings(trial))
    return ()


def _check_owners(trial: GAN) -> None:
    """Raise PluginError for a parameter that both players would train."""
    owners: dict[nn.Parameter, str] = {}
    for role, module in trial.trained_by["generator"].items():
        owners |= {parameter: role for parameter in module.parameters() if parameter.requires_grad}
    for role, module in trial.trained_by["discriminator"].items():
        for name, parameter in module.named_parameters():
            if parameter in owners:
                error = PluginError(
                    f"parameter {name!r} of the {role} is also in the {owners[parameter]}, so both players would train "
                    "it",
                    "call the other network through `players` of the scores, copy the module, or set requires_grad to "
                    "False",
                )
                error.part = role
                raise error


def _check_trained(trial: GAN) -> None:
    """Raise PluginError for a parameter of a loss, regularizer or augmentation that its update does not train."""
    for player, modules in trial.trained_by.items():
        for role, module in modules.items():
            if role == player:
                continue
            for name, parameter in module.named_parameters():
                if parameter.requires_grad and parameter.grad is None:
                    error = PluginError(
                        f"parameter {name!r} of the {role} has no gradient in the update of the {player}, which trains "
                        "it",
                        f"add a term that depends on it to the loss of the {player}, make it a buffer, or move it into "
                        "a network",
                    )
                    error.part = role
                    raise error


def preflight_copy(gan: GAN) -> GAN:
    """Return a GAN that steps as the given one does, but on copies of its parts, with a learning rate of 0.

    All regularizers and augmentations are active, at strength 1. D is updated once, in two passes, on this rank alone.
    """
    trial, _ = copy_parts(gan)
    training = gan.options.training.model_copy(
        update={"accumulate": 1, "discriminator_steps": 1, "generator_steps": 1, "clip_norm": None}
    )
    trial.options = gan.options.model_copy(update={"training": training})
    trial.ranks, trial.averages = SINGLE_RANK, None
    trial.is_preflight_copy, trial.preflight_leaves = True, set()
    trial.connect(one_pass=False)
    trial.optimizers = {
        player: optim.SGD(_trained(modules) or [nn.Parameter(torch.zeros(1))], lr=0.0)
        for player, modules in trial.trained_by.items()
    }
    trial.state = TrainingState({}, {}, {}, seed=0, device=gan.device)
    trial.progress = trial.state.progress
    trial.finite_check = FiniteCheck(gan.device, immediate=True)
    trial.critic.augmentations = trial.active_augmentations()
    return trial


def copy_parts(gan: GAN) -> tuple[GAN, dict[int, object]]:
    """Return a GAN with copies of all parts that a step changes, and the memo of `deepcopy` that has made them."""
    trial, memo = copy(gan), dict[int, object]()  # one memo: parts that share a module share its copy
    for role, name in _COPIED.items():
        setattr(trial, name, copy_of(role, getattr(gan, name), memo))
    return trial, memo


_COPIED = {
    "generator": "generator",
    "discriminator": "discriminator",
    "loss": "loss",
    "regularizers": "penalties",
    "augmentations": "augments",
}
"""The parts that a step changes, as errors name them, and the attributes of a GAN that hold them."""


def _trained(modules: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    # Each once, since a loss may hold a part of its player's network.
    return list(dict.fromkeys(parameter for module in modules.values() for parameter in module.parameters()))


def _check_regularizers(gan: GAN, inputs: TrialInputs) -> None:
    strict = [label for label, regularizer in gan.regularizers.items() if regularizer.per_sample]
    if strict and depends_on_batch("discriminator", gan.discriminator, inputs):
        raise ConfigError(
            f"regularizer {strict[0]!r} needs a discriminator whose logits for an image depend on this image alone; in "
            "this one they depend on the rest of the batch (batch normalization, minibatch statistics)",
            "choose a discriminator without these, or another regularizer, such as r1",
        )


def _check_accumulation(gan: GAN, inputs: TrialInputs) -> None:
    trial = preflight_copy(gan)
    part = MicroBatch(inputs.first, inputs.condition, inputs.latent, COUNT)
    with torch.no_grad():
        fake = trial.generate(part)
    fake = replace(fake, images=inputs.second)
    real_scores, fake_scores = trial.critic.score_pair(part, fake, NO_REGULARIZERS)
    mixing = {
        "discriminator": depends_on_batch("discriminator", gan.discriminator, inputs),
        "generator": depends_on_batch("generator", gan.generator, inputs),
        "loss": needs_whole_batch(trial.loss.objective, detached(real_scores), detached(fake_scores)),
        "regularizer": any(regularizer.whole_batch for regularizer in gan.regularizers.values()),
    }
    for role in (role for role, mixes in mixing.items() if mixes):
        raise ConfigError(
            f"training.accumulate splits a batch into micro-batches, which must not change the result; in this {role} "
            "the images of a batch depend on each other (batch statistics, averages over the batch)",
            "leave training.accumulate out and choose a smaller batch_size, or other parts",
        )


def _check_last_batch(gan: GAN, *, mixes: bool) -> None:
    """Check that the networks take the smallest batch of an epoch, which is the last one, in micro-batches if any."""
    feed, rest = gan.feed, gan.feed.smallest_part
    count = -(-rest // gan.options.training.accumulate)
    per_process = "" if rest == (feed.size % feed.batch_size or feed.batch_size) else " for one process"
    try:
        inputs = _trial_batch(gan, count)[1]
        with torch.no_grad():  # so that it takes less memory than a step
            if mixes:
                score_trial(copy_of("discriminator", gan.discriminator), inputs.first, inputs)
            else:
                both = torch.cat([inputs.first, inputs.second])
                score_trial(copy_of("discriminator", gan.discriminator), both, twice(inputs))
    except PluginError as error:
        raise ConfigError(
            f"batch_size {feed.batch_size} leaves a last batch of {rest} of {feed.size} images{per_process}, and "
            f"{error}",
            "choose a batch_size that divides the dataset, or leaves a larger rest",
        ) from error


def _generate(generator: nn.Module, latent: Tensor, condition: Tensor | None, feed: Feed) -> Generated:
    """Return what a generator makes. Raises PluginError if it breaks the contract."""
    with blame("generator", "in forward()"):
        try:
            returned = call(generator, latent, condition)
        except (RuntimeError, ValueError) as error:
            if hint := latent_hint(generator, latent, condition):
                raise PluginError(f"the generator failed in forward(): {describe_error(error)}", hint) from error
            raise
        images = returned.images if isinstance(returned, Generated) else returned
        expected = (len(latent), *feed.shape)
        valid = isinstance(images, Tensor) and images.shape == expected
        if not valid or images.dtype != latent.dtype or images.device != latent.device:
            raise PluginError(
                f"a generator must return images of shape {expected}, {latent.dtype}, on {latent.device}, for latents "
                f"of shape {tuple(latent.shape)}; received {describe_tensor(images)}",
                "" if valid else shape_hint(images, feed.shape),
            )
        if not images.requires_grad:
            raise PluginError("a generator's images must carry a gradient; these are detached from its parameters")
        made = returned if isinstance(returned, Generated) else Generated(images)
        check_extras(made.extras, images)
    return made


def _check_gradients(discriminator: nn.Module, images: Tensor, inputs: TrialInputs) -> None:
    """Check that D's logits depend on its parameters, for its own update, and on the images, for G's."""
    images = images.detach().requires_grad_()
    weights = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    with blame("discriminator", "when the gradient of its logits was taken"):
        logits = score_trial(discriminator, images, inputs).logits
        gradients: list[Tensor | None] = [None]
        if logits.requires_grad:
            gradients = list(torch.autograd.grad(logits.sum(), [images, *weights], allow_unused=True))
        for found, what in ((gradients[1:], "its parameters"), (gradients[:1], "the images")):
            if all(gradient is None for gradient in found):
                raise PluginError(f"a discriminator's logits must carry a gradient; these are detached from {what}")
