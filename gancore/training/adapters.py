"""G, D and the loss as the step calls them.

Adapters hold what is the same in every step: precision, augmentations, whether real and fake images share a pass of D,
means over all ranks, and the attribution of errors. The step itself shows the algorithm alone.

Calls in the step enter `blame` only in an except clause, so that it costs no Python call unless there is an error
(`python -m benchmarks.calls` counts them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancore.contracts import Augment, Objective, Scores, mean_of_batch
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import PluginError, blame
from gancore.training.micro_batch import MicroBatch
from gancore.training.networks import Mean, at_least_float32, call, checked_loss, describe_tensor, score, scores_of
from gancore.training.regularizers import ActiveRegularizers

Autocast = Callable[[], AbstractContextManager[object]]
"""Returns a context in which networks multiply in the run's precision."""


class GeneratorAdapter:
    """G as the step calls it: in the run's precision, with images in float32 or better."""

    def __init__(self, generator: nn.Module, autocast: Autocast = nullcontext) -> None:
        self.generator, self._autocast = generator, autocast

    def __call__(self, part: MicroBatch, *, keep_graph: bool = True) -> Tensor:
        """Return fake images (n, *shape) for the latents of a micro-batch, connected to G if `keep_graph`."""
        try:
            with self._autocast(), torch.set_grad_enabled(keep_graph):
                images: Tensor = call(self.generator, part.latent, part.labels)
        except BaseException:
            with blame("generator", "in forward()"):
                raise
        return at_least_float32(images)


@dataclass(frozen=True)
class ActiveAugmentation:
    """An augmentation, and the share of images in 0..1 that it changes at present."""

    label: str
    augment: Augment
    strength: float


class DiscriminatorAdapter:
    """D as the step calls it: with augmentations, in the run's precision, and with means over all ranks.

    `one_pass` says whether real and fake images go through D together. This is valid only if D does not mix samples,
    which the preflight checks. Calling the adapter calls D on augmented images.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        *,
        autocast: Autocast = nullcontext,
        ranks: Ranks = SINGLE_RANK,
        one_pass: bool = False,
    ) -> None:
        self.discriminator, self._autocast, self._ranks, self.one_pass = discriminator, autocast, ranks, one_pass
        self.augmentations: Sequence[ActiveAugmentation] = ()

    def score_pair(self, part: MicroBatch, fake: Tensor, regularizers: ActiveRegularizers) -> tuple[Scores, Scores]:
        """Score the real images of a micro-batch and fakes (n, *shape), which have the same labels, for D's update.

        Images that a penalty differentiates with respect to become leaves. Real and fake images then go through D
        separately, since in one pass the gradient of either would cost the work of both.
        """
        real, fake = regularizers.as_leaf("real", part.images), regularizers.as_leaf("fake", fake)  # (n, *shape) each
        mean = self._mean(part)
        with self._autocast():
            if not self.one_pass or regularizers.inputs:
                real_scores = score(self, real, None, part.labels, mean)
                return real_scores, score(self, fake, part.latent, part.labels, mean)
            labels = None if part.labels is None else torch.cat([part.labels, part.labels])  # (2n,)
            try:
                output = self(torch.cat([real, fake]), labels)  # logits (2n, K)
            except BaseException:
                with blame("discriminator", "in forward()"):
                    raise
        count = len(real)
        return (
            scores_of(output, slice(count), real, None, part.labels, mean),
            scores_of(output, slice(count, None), fake, part.latent, part.labels, mean),
        )

    def score_real(self, part: MicroBatch, regularizers: ActiveRegularizers) -> Scores:
        """Score the real images of a micro-batch for G's update; with a graph only where a penalty differentiates."""
        images = regularizers.as_leaf("real", part.images)
        with self._autocast(), torch.set_grad_enabled("real" in regularizers.inputs):
            return score(self, images, None, part.labels, self._mean(part))

    def score_fake(self, part: MicroBatch, fake: Tensor) -> Scores:
        """Score fakes (n, *shape) for G's update; the gradient reaches G through them."""
        with self._autocast():
            return score(self, fake, part.latent, part.labels, self._mean(part))

    def critic(self, images: Tensor, labels: Tensor | None) -> Scores:
        """Score images that a regularizer has made."""
        return score(self, images, None, labels)

    def __call__(self, images: Tensor, labels: Tensor | None = None) -> Any:  # Any: what D returns
        """Return what D returns for images (N, *shape), augmented first."""
        for augmentation in self.augmentations:
            images = _augmented(augmentation, images)
        with self._autocast():
            return call(self.discriminator, images, labels)

    def observe(self, real: Scores) -> None:
        """Pass the scores of real images in D's update to the augmentations that adapt to them."""
        for augmentation in self.augmentations:
            observe = getattr(augmentation.augment, "observe", None)
            if observe is not None:
                with blame(f"augmentation {augmentation.label!r}", "in observe()"):
                    observe(real)

    def _mean(self, part: MicroBatch) -> Mean:
        return self._ranks.mean_of(part.total) if self._ranks.is_distributed else mean_of_batch


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


class LossAdapter:
    """The loss as the step calls it; raises PluginError if its result cannot be minimized."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    @property
    def needs_real(self) -> bool:
        """Whether G's update scores the real images too."""
        try:
            return self.objective.needs_real
        except BaseException:
            with blame("loss", "in needs_real"):
                raise

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
        except BaseException:
            with blame("loss", "in generator()"):
                raise
