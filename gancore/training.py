"""The training loop: a generator function that steps a GAN and yields what happened.

A step is one update of G after `discriminator_steps` updates of D. Whoever consumes the records logs, draws, saves,
or stops asking; the loop itself knows of none of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from gancore.data import Batch
from gancore.errors import blamed
from gancore.gan import GAN, update_average
from gancore.optimizers import OptimizerSettings
from gancore.players import call, frozen, judge, judge_both


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did. The tensors stay on the device; `scalars` reads them, and waits for the device to do so."""

    step: int
    epoch: float
    images_seen: int
    seconds: float
    done: float
    discriminator_loss: Tensor
    generator_loss: Tensor
    real_logits: Tensor
    fake_logits: Tensor

    def scalars(self) -> dict[str, float]:
        """Flat numbers: the losses, and the mean logits of D's last update before its step."""
        return {
            "step": self.step,
            "epoch": round(self.epoch, 4),
            "kimg": self.images_seen / 1000,
            "seconds": round(self.seconds, 3),
            "discriminator_loss": float(self.discriminator_loss),
            "generator_loss": float(self.generator_loss),
            "real_logit_mean": float(self.real_logits.mean()),
            "fake_logit_mean": float(self.fake_logits.mean()),
        }


def train(gan: GAN, *, joined: bool | None = None) -> Iterator[Step]:
    """Trains until the total of `gan.options.duration` is reached, and yields a record of every step.

    `joined` says whether D sees real and fake in one pass; by default it does where that changes nothing but rounding.
    """
    progress = gan.progress
    joined = gan.joined if joined is None else joined
    batches = gan.feed.batches(progress.images_seen)
    begun = perf_counter() - progress.seconds
    while gan.done() < 1:
        # The consumer may have turned gradients off, and may draw random numbers: neither is a matter of the run's.
        with gan.randomness.lent(), torch.enable_grad():
            losses, images_seen = _step(gan, batches, joined)
        # All at once, so that an interrupted step is not half counted.
        progress.step += 1
        progress.images_seen = images_seen
        progress.seconds = perf_counter() - begun
        yield Step(
            step=progress.step,
            epoch=progress.images_seen / gan.feed.size,
            images_seen=progress.images_seen,
            seconds=progress.seconds,
            done=gan.done(),
            **losses,
        )


def _step(gan: GAN, batches: Iterator[Batch], joined: bool) -> tuple[dict[str, Tensor], int]:
    """One update of G after D's; returns its scores, and the images seen after it."""
    options, images_seen = gan.options, gan.progress.images_seen
    _keep_to_schedule(gan, "discriminator", options.optimizer.discriminator)
    _keep_to_schedule(gan, "generator", options.optimizer.generator)

    for update in range(options.training.discriminator_steps):
        batch = next(batches)
        labels = batch.labels if gan.num_classes is not None else None
        latent = gan.latent(len(batch.images))
        # Only the fakes that G's step will score need a way back to G.
        shared = options.training.fakes == "shared" and update == options.training.discriminator_steps - 1
        with torch.set_grad_enabled(shared), blamed("generator"):
            images: Tensor = call(gan.generator, latent, labels)

        fakes = images.detach()
        if joined:
            real, fake = judge_both(gan.discriminator, batch.images, fakes, latent, labels)
        else:
            real = judge(gan.discriminator, batch.images, None, labels)
            fake = judge(gan.discriminator, fakes, latent, labels)
        with blamed("loss"):
            discriminator_loss = gan.objective.discriminator(real, fake)
        gan.optimizers["discriminator"].zero_grad(set_to_none=True)
        discriminator_loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gan.optimizers["discriminator"].step()
        images_seen += len(batch.images)

    if not shared:
        latent = gan.latent(len(batch.images))
        with blamed("generator"):
            images = call(gan.generator, latent, labels)
    with frozen(gan.discriminator):
        seen = None
        if gan.objective.needs_real:
            with torch.no_grad():
                seen = judge(gan.discriminator, batch.images, None, labels)
        scores = judge(gan.discriminator, images, latent, labels)
        with blamed("loss"):
            generator_loss = gan.objective.generator(scores, seen)
        gan.optimizers["generator"].zero_grad(set_to_none=True)
        generator_loss.backward()  # type: ignore[no-untyped-call]  # as above
    gan.optimizers["generator"].step()

    if gan.ema is not None and options.ema is not None:
        update_average(gan.ema, gan.generator, options.ema, images_seen, images_seen - gan.progress.images_seen)
    scores_of_step = {
        "discriminator_loss": discriminator_loss.detach(),
        "generator_loss": generator_loss.detach(),
        "real_logits": real.logits.detach(),
        "fake_logits": fake.logits.detach(),
    }
    return scores_of_step, images_seen


def _keep_to_schedule(gan: GAN, player: str, settings: OptimizerSettings) -> None:
    if settings.scheduled:
        values = settings.at(gan.progress.images_seen)
        for group in gan.optimizers[player].param_groups:
            group.update(values)
