"""One training step: the algorithm on one screen.

Adapters (`adapters.py`) call the networks and the loss, `update.py` makes an update of a player out of gradients.
Letters in shapes: N images of a batch, n of a micro-batch, Z latent, C H W image, K logits per image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.parametrize import cached

from gancore.data.feed import Batch
from gancore.training.micro_batch import MicroBatch, micro_batches
from gancore.training.sync import average_buffers
from gancore.training.update import Update

if TYPE_CHECKING:
    from gancore.training.gan import GAN


@dataclass(frozen=True, slots=True)
class StepResult:
    """Losses, logits (N, K) from before D's last update, and penalties by label, all detached."""

    discriminator_loss: Tensor
    generator_loss: Tensor
    real_logits: Tensor
    fake_logits: Tensor
    penalties: dict[str, Tensor]


def step(gan: GAN, batches: Iterable[Batch]) -> StepResult:
    """Update D once per batch, then G (Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1).

    `batches` yields `training.discriminator_steps` batches; G is updated `training.generator_steps` times, on new fakes
    after the first time. Losses, logits and penalties are those of the whole batch over all ranks. Raises
    NonFiniteError before an update whose loss or gradient is not finite, and PluginError for a part that fails.
    """
    training, generate, critic, loss = gan.options.training, gan.generate, gan.critic, gan.loss
    penalties: dict[str, Tensor] = {}
    images_seen = 0

    for number, batch in enumerate(batches):
        latent = gan.latent(batch.total)  # (N, Z)
        parts = micro_batches(batch, latent, training.accumulate, conditional=gan.spec.condition is not None)
        # G's update scores the fakes of D's last update again. Only these keep their graph.
        shared = training.fakes == "shared" and number == training.discriminator_steps - 1
        d_update = Update(gan, "discriminator", number)  # clears D's gradients
        scores = []
        for part in parts:
            fake = generate(part, keep_graph=shared and len(parts) == 1)  # (n, *shape)
            with cached():  # one power iteration of D's spectral normalization for both; fakes may keep G's graph
                real_scores, fake_scores = critic.score_pair(part, fake, d_update.regularizers)  # (n, K) each
                d_loss = loss.discriminator(real_scores, fake_scores)  # ()
                d_penalties = d_update.regularizers.penalties(real_scores, fake_scores)
            d_update.backward(d_loss, d_penalties, part.share)
            part.fake = fake if fake.images.requires_grad else None
            scores.append((real_scores, fake_scores))
        real_scores, fake_scores = d_update.step(batch.total, scores)
        critic.observe(real_scores)
        penalties |= d_update.penalties
        images_seen += batch.total

    for number in range(training.generator_steps):
        if number or not shared:
            redraw_latents(parts, gan.latent(batch.total))
        g_update = Update(gan, "generator", number)  # clears G's gradients
        with gan.freezers["discriminator"].frozen():  # D's parameters collect no gradient
            for part in parts:
                fake = generate(part) if part.fake is None else part.fake  # (n, *shape)
                needs_real = loss.needs_real or g_update.regularizers.active
                g_real = critic.score_real(part, g_update.regularizers) if needs_real else None
                g_fake = critic.score_fake(part, fake)  # (n, K)
                g_loss = loss.generator(g_fake, g_real if loss.needs_real else None)  # ()
                g_penalties = g_update.regularizers.penalties(g_real, g_fake) if g_real else {}
                g_update.backward(g_loss, g_penalties, part.share)
            g_update.step(batch.total)
        penalties |= g_update.penalties

    average_buffers(gan, parts)
    gan.update_ema(images_seen)
    return StepResult(
        d_update.loss,
        g_update.loss,
        real_scores.logits.detach(),
        fake_scores.logits.detach(),
        penalties,
    )


def redraw_latents(parts: Sequence[MicroBatch], latent: Tensor) -> None:
    """Replace the latents of the micro-batches by those of new fakes (N, Z), for an update of G."""
    for part, own in zip(parts, torch.split(latent, [len(part.images) for part in parts]), strict=True):
        part.latent, part.fake = own, None
