"""G, D and the loss as the step calls them.

Adapters hold what is the same in every step: precision, augmentations, whether real and fake images share a pass of D,
the extras that D receives, means over all ranks, and the attribution of errors. The step itself shows the algorithm
alone.

Calls of G, D and the loss enter `blame` only in an except clause, so that it costs no Python call unless there is an
error (`python -m benchmarks.calls` counts them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancore.contracts import NO_PLAYERS, Augment, Generated, Objective, Player, Players, Scores, mean_of_batch
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import PluginError, blame
from gancore.training.micro_batch import MicroBatch
from gancore.training.networks import (
    NO_EXTRAS,
    Extras,
    Freezer,
    Mean,
    ScoreInputs,
    call,
    checked_loss,
    describe_tensor,
    encode,
    generated_of,
    halves_of,
    received_extras,
    scores_of,
)
from gancore.training.regularizers import ActiveRegularizers

Autocast = Callable[[], AbstractContextManager[object]]
"""Returns a context in which networks multiply in the run's precision."""


class GeneratorAdapter:
    """G as the step calls it: in the run's precision, with images in float32 or better."""

    def __init__(self, generator: nn.Module, autocast: Autocast = nullcontext) -> None:
        self.generator, self._autocast = generator, autocast

    def __call__(self, part: MicroBatch, *, keep_graph: bool = True) -> Generated:
        """Return fake images (n, *shape) for the latents of a micro-batch, connected to G if `keep_graph`."""
        with torch.set_grad_enabled(keep_graph):
            return self.generate(part.latent, part.condition)

    def generate(self, latent: Tensor, condition: Tensor | None) -> Generated:
        """Return what G makes of latents (N, Z)."""
        try:
            with self._autocast():
                return generated_of(call(self.generator, latent, condition))
        except BaseException:
            with blame("generator", "in forward()"):
                raise

    def encode(self, images: Tensor, condition: Tensor | None) -> Extras:
        """Return what G's `encode` makes of images (N, *shape): extras by name. Raises PluginError if it has none."""
        with self._autocast():
            return encode(self.generator, images, condition)


@dataclass(frozen=True)
class ActiveAugmentation:
    """An augmentation, and the share of images in 0..1 that it changes at present."""

    label: str
    augment: Augment
    strength: float


class DiscriminatorAdapter:
    """D as the step calls it: with augmentations, in the run's precision, and with means over all ranks.

    `one_pass` says whether real and fake images go through D together. This is valid only if D does not mix samples,
    which the preflight checks. Calling the adapter calls D on augmented images. `players` are the networks as losses
    and regularizers may call them in an update of each player.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        generate: GeneratorAdapter,
        *,
        autocast: Autocast = nullcontext,
        ranks: Ranks = SINGLE_RANK,
        one_pass: bool = False,
    ) -> None:
        self.discriminator, self._autocast, self._ranks, self.one_pass = discriminator, autocast, ranks, one_pass
        self.generate, self.extra_inputs = generate, tuple(getattr(discriminator, "extra_inputs", ()))
        self.augmentations: Sequence[ActiveAugmentation] = ()
        self.players: Mapping[Player, Players] = {"generator": NO_PLAYERS, "discriminator": NO_PLAYERS}

    def score_pair(self, part: MicroBatch, fake: Generated, regularizers: ActiveRegularizers) -> tuple[Scores, Scores]:
        """Score the real images of a micro-batch and fakes, which have the same condition, for D's update.

        Nothing carries a gradient to G. Images that a penalty differentiates with respect to become leaves. Real and
        fake images then go through D separately, since in one pass the gradient of either would cost the work of both.
        """
        players, mean = self.players["discriminator"], self._mean(part)
        real_extras, fake_extras = NO_EXTRAS, NO_EXTRAS
        if self.extra_inputs:
            with torch.no_grad():
                real_extras = self._received(self.generate.encode(part.images, part.condition))
        if fake.extras:
            fake_extras = {name: extra.detach() for name, extra in fake.extras.items()}
        real_images = regularizers.as_leaf("real", part.images)  # (n, *shape)
        fake_images = regularizers.as_leaf("fake", fake.images.detach())  # (n, *shape)
        real = ScoreInputs(real_images, part.condition, None, real_extras, players, mean)
        fakes = ScoreInputs(fake_images, part.condition, part.latent, fake_extras, players, mean)
        if not self.one_pass or regularizers.inputs:
            return self._score(real), self._score(fakes)
        condition = None if part.condition is None else torch.cat([part.condition, part.condition])  # (2n, …)
        extras = NO_EXTRAS
        if self.extra_inputs:
            received = self._received(fake_extras)
            extras = {name: _joined(name, real_extras[name], received[name]) for name in received}  # (2n, …)
        of_real, of_fakes = halves_of(self(torch.cat([real_images, fake_images]), condition, extras))
        return scores_of(of_real, real), scores_of(of_fakes, fakes)

    def score_real(self, part: MicroBatch, regularizers: ActiveRegularizers) -> Scores:
        """Score the real images of a micro-batch for G's update.

        They have a graph only where a penalty differentiates, or where D receives extras of G's `encode`.
        """
        images = regularizers.as_leaf("real", part.images)
        with torch.set_grad_enabled("real" in regularizers.inputs or bool(self.extra_inputs)):
            extras = self._received(self.generate.encode(images, part.condition)) if self.extra_inputs else NO_EXTRAS
            players, mean = self.players["generator"], self._mean(part)
            return self._score(ScoreInputs(images, part.condition, None, extras, players, mean))

    def score_fake(self, part: MicroBatch, fake: Generated) -> Scores:
        """Score fakes for G's update; the gradient reaches G through them."""
        players, mean = self.players["generator"], self._mean(part)
        return self._score(ScoreInputs(fake.images, part.condition, part.latent, fake.extras, players, mean))

    def score_again(self, player: Player, images: Tensor, condition: Tensor | None, extras: Extras) -> Scores:
        """Score images that a loss or a regularizer has made in a player's update."""
        return self._score(ScoreInputs(images, condition, None, extras, self.players[player], mean_of_batch))

    def _score(self, inputs: ScoreInputs) -> Scores:
        extras = self._received(inputs.extras) if self.extra_inputs else NO_EXTRAS
        return scores_of(self(inputs.images, inputs.condition, extras), inputs)

    def _received(self, extras: Extras) -> Extras:
        with blame("discriminator", "when its extra inputs were collected"):
            return received_extras(self.extra_inputs, extras)

    def __call__(
        self, images: Tensor, condition: Tensor | None = None, extras: Extras = NO_EXTRAS
    ) -> Any:  # Any: what D returns
        """Return what D returns for images (N, *shape), augmented first."""
        for augmentation in self.augmentations:
            images = _augmented(augmentation, images)
        try:
            with self._autocast():
                return call(self.discriminator, images, condition, extras)
        except BaseException:
            with blame("discriminator", "in forward()"):
                raise

    def observe(self, real: Scores) -> None:
        """Pass the scores of real images in D's update to the augmentations that adapt to them."""
        for augmentation in self.augmentations:
            observe = getattr(augmentation.augment, "observe", None)
            if observe is not None:
                with blame(f"augmentation {augmentation.label!r}", "in observe()"):
                    observe(real)

    def _mean(self, part: MicroBatch) -> Mean:
        return self._ranks.mean_of(part.total) if self._ranks.is_distributed else mean_of_batch


def _joined(name: str, real: Tensor, fake: Tensor) -> Tensor:
    """Return an extra of real images and of fakes (n, …) as one tensor (2n, …)."""
    with blame("generator", "when its extras were joined"):
        if real.shape != fake.shape:
            raise PluginError(
                f"extra {name!r} of a generator must have one shape; encode() returned {tuple(real.shape)} for real "
                f"images, and Generated has {tuple(fake.shape)}"
            )
        return torch.cat([real, fake])


def _augmented(active: ActiveAugmentation, images: Tensor) -> Tensor:
    # Pixel coordinates need more than the 8 bits of bfloat16.
    with blame(f"augmentation {active.label!r}", "in __call__()"), torch.autocast(images.device.type, enabled=False):
        changed = active.augment(images, active.strength)
        if not isinstance(changed, Tensor) or _form(changed) != _form(images):
            raise PluginError(
                "an augmentation must return images of the shape, type and device that it was given, "
                f"{tuple(images.shape)} {images.dtype} on {images.device}; {active.label!r} returned "
                f"{describe_tensor(changed)}"
            )
    return changed


def _form(images: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return images.shape, images.dtype, images.device


class PlayersAdapter:
    """Both networks as a loss or a regularizer calls them in a player's update; see `contracts.Players`.

    In D's update G is frozen during its calls; in G's update the step has frozen D.
    """

    def __init__(
        self, player: Player, generate: GeneratorAdapter, critic: DiscriminatorAdapter, generator_freezer: Freezer
    ) -> None:
        self._player, self._generate, self._critic = player, generate, critic
        self._generator_freezer = generator_freezer

    @property
    def generator(self) -> nn.Module:
        """The generator itself."""
        return self._generate.generator

    @property
    def discriminator(self) -> nn.Module:
        """The discriminator itself, without augmentations."""
        return self._critic.discriminator

    def generate(self, latent: Tensor, condition: Tensor | None = None) -> Generated:
        """Return what G makes of latents (N, Z)."""
        with self._frozen_generator():
            return self._generate.generate(latent, condition)

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Extras:
        """Return what G's `encode` makes of images (N, *shape): extras by name."""
        with self._frozen_generator():
            return self._generate.encode(images, condition)

    def score(self, images: Tensor, condition: Tensor | None = None, extras: Extras | None = None) -> Scores:
        """Return D's scores of images (N, *shape), which are augmented first."""
        return self._critic.score_again(self._player, images, condition, extras or NO_EXTRAS)

    def _frozen_generator(self) -> AbstractContextManager[None]:
        return self._generator_freezer.frozen() if self._player == "discriminator" else nullcontext()


class LossAdapter:
    """The loss as the step calls it; raises PluginError if its result cannot be minimized."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        with blame("loss", "in needs_real"):
            self.needs_real = bool(getattr(objective, "needs_real", False))

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """Return what D minimizes: a scalar."""
        try:
            return checked_loss("discriminator", self.objective.discriminator(real, fake), fake.images)
        except BaseException:
            with blame("loss", "in discriminator()"):
                raise

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """Return what G minimizes: a scalar."""
        try:
            return checked_loss("generator", self.objective.generator(fake, real), fake.images)
        except BaseException as error:
            with blame("loss", "in generator()"):
                if real is None and isinstance(error, AttributeError) and "'NoneType'" in str(error):
                    raise PluginError(
                        f"it reads the scores of real images in generator(), which it does not receive ({error})",
                        "set needs_real = True on the loss, or on the module that its build() returns",
                    ) from error
                raise
