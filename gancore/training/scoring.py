"""Scores and penalties for training loops that are not gancore's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from gancore.contracts import Generated, Penalty, Regularizer, Scores, TrainingTime
from gancore.errors import ConfigError, DataError
from gancore.settings import START, BaseSchedule
from gancore.training.networks import (
    Extras,
    Network,
    ScoreInputs,
    call,
    check_extras,
    checked_output,
    describe_tensor,
    encode,
    generated_of,
    is_loss,
    received_extras,
    scores_of,
)

_END = TrainingTime(sys.maxsize, 1.0)


def score(  # all that a loss or a regularizer may ask for
    discriminator: Network,
    images: Tensor | Generated,
    condition: Tensor | None = None,
    *,
    latent: Tensor | None = None,
    generator: nn.Module | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> Scores:
    """Return D's scores of images (N, *shape), for a loss or a regularizer in a training loop of your own.

    D is called once, as `discriminator(images)` or `discriminator(images, condition)`, and may be any callable that
    returns logits (N, K) or an `Output`. The graph is that of this call: images that carry a gradient keep it, and a
    penalty such as r1 needs `images.requires_grad_()` before. Logits are float32 or better under autocast too.

    `images` with extras are a `Generated`; D receives those that its `extra_inputs` names. `latent` (N, Z) and
    `generator` are for losses and regularizers that use them. `augment` changes the images before D sees them, for
    later calls of `players.score` too.

    Raises DataError for images that are not a floating-point tensor or a condition of another length, ConfigError for a
    class in place of a network, PluginError for what D must not return and for a missing extra.
    """
    players = _OwnPlayers(discriminator, generator, augment)
    made = images if isinstance(images, Generated) else Generated(images)
    return replace(players.scores(made, condition), latent=latent)


def penalty(
    regularizer: Regularizer,
    real: Scores,
    fake: Scores,
    *,
    time: TrainingTime | None = None,
    built: Penalty | None = None,
) -> Tensor:
    """Return what to add to the player's loss in this update (), in a training loop of your own.

    It is the penalty times the regularizer's strength, such as `gamma`, and times its `interval`. You choose the
    updates: for lazy regularization, those with `step % regularizer.interval == 0`. `time` is the time in your run, for
    a strength that is a schedule. `built` is what `regularizer.build(spec)` returned, for a regularizer with state.

    Raises ConfigError if the images are not prepared for it: `regularizer.differentiates` names those that need
    `requires_grad_()` before they are scored. Raises ConfigError also if it adds no penalty but projects weights, or if
    `time` or `built` is missing.
    """
    name = f"regularizer {regularizer.name!r}"
    strength = regularizer.strength(time or START)
    scheduled = any(isinstance(value, BaseSchedule) for _, value in regularizer)
    if time is None and (scheduled or strength != regularizer.strength(_END)):
        raise ConfigError(
            f"the strength of {name} changes during a run, so it needs a time",
            "pass time=gancore.TrainingTime(images_seen, done), with done in 0..1",
        )
    if not strength:
        return real.logits.new_zeros(())
    for which, scores in (("real", real), ("fake", fake)):
        if which in regularizer.differentiates and not scores.images.requires_grad:
            raise ConfigError(
                f"{name} takes the gradient with respect to the {which} images, and these carry none",
                "call images.requires_grad_() before gancore.score(discriminator, images)",
            )
    if built is None and type(regularizer).build is not Regularizer.build:
        raise ConfigError(
            f"{name} is built once for a run, since it has state or depends on the data",
            "pass built=regularizer.build(gancore.Spec(shape)), from before the loop",
        )
    part = regularizer if built is None else built
    added = part.penalty(real, fake)
    if added is None:
        if type(regularizer).project is not Regularizer.project:
            raise ConfigError(
                f"{name} adds no penalty; it changes the weights after an update",
                f"call regularizer.project(network, {strength}) after optimizer.step()",
            )
        return real.logits.new_zeros(())
    if not is_loss(added, real.images):
        raise ConfigError(
            f"a penalty must be None or a scalar tensor with a gradient, on {real.images.device}; {name} returned "
            f"{describe_tensor(added)}",
            "score both batches outside of torch.no_grad()",
        )
    return added * (strength * regularizer.interval)


@dataclass(frozen=True, eq=False)
class _OwnPlayers:
    """Both networks of a training loop that is not gancore's; see `contracts.Players`.

    The loop itself clears gradients before each update, so the networks are not frozen here.
    """

    own_discriminator: Network
    own_generator: nn.Module | None
    augment: Callable[[Tensor], Tensor] | None

    @property
    def generator(self) -> nn.Module:
        """The generator, which must have been passed to `score`."""
        if self.own_generator is None:
            raise ConfigError(
                "this loss or regularizer uses the generator", "pass it: gancore.score(D, images, generator=G)"
            )
        return self.own_generator

    @property
    def discriminator(self) -> nn.Module:
        """The discriminator as it was passed to `score`."""
        return cast(nn.Module, self.own_discriminator)

    def generate(self, latent: Tensor, condition: Tensor | None = None) -> Generated:
        """Return what G makes of latents (N, Z)."""
        return generated_of(call(self.generator, latent, condition))

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Extras:
        """Return what G's `encode` makes of images (N, *shape): extras by name."""
        return encode(self.generator, images, condition)

    def score(
        self, images: Tensor, condition: Tensor | None = None, extras: Mapping[str, Tensor] | None = None
    ) -> Scores:
        """Return D's scores of images (N, *shape), which are augmented first."""
        return self.scores(Generated(images, extras or {}), condition)

    def scores(self, made: Generated, condition: Tensor | None) -> Scores:
        """Return D's scores of images that may have extras."""
        images = made.images
        _check_inputs(self.own_discriminator, images, condition)
        check_extras(made.extras, images)
        extras = received_extras(tuple(getattr(self.own_discriminator, "extra_inputs", ())), made.extras)
        seen = images if self.augment is None else self.augment(images)
        output = checked_output(call(self.own_discriminator, seen, condition, extras), images)
        inputs = ScoreInputs(images, condition, extras=made.extras, players=self)
        return scores_of(output, inputs)


def _check_inputs(discriminator: object, images: object, condition: object) -> None:
    """Raise DataError unless images are floating point and begin with N, as the condition does."""
    if isinstance(discriminator, type):
        raise ConfigError(
            f"a discriminator must be an instance; received the class {discriminator.__name__}",
            f"make one: {discriminator.__name__}(...)",
        )
    if not isinstance(images, Tensor):
        raise DataError(
            f"images must be a tensor (N, *shape); received {type(images).__name__}",
            "convert arrays with torch.from_numpy",
        )
    if not images.is_floating_point() or images.ndim < 2 or len(images) == 0:
        hint = "images.float() / 127.5 - 1" if images.dtype == torch.uint8 else ""
        raise DataError(
            f"images must be floating point, with at least one sample, in the range that D is trained on; received "
            f"{describe_tensor(images)}",
            hint,
        )
    if condition is not None and not (isinstance(condition, Tensor) and condition.shape[:1] == images.shape[:1]):
        raise DataError(
            f"a condition must be a tensor that begins with N = {len(images)}; received {describe_tensor(condition)}",
            "labels are integers of shape (N,)",
        )
