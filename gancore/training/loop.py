"""The training loop: a generator function that steps a GAN and yields what happened.

A step is one update of G after `discriminator_steps` updates of D. Whoever consumes the records logs, draws, saves,
or stops asking; the loop itself knows of none of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import torch
from torch import Tensor
from torch.nn.utils.parametrize import cached

from gancore.config.optimizers import OptimizerSettings
from gancore.contracts import Scores
from gancore.data.feed import Batch, Feed
from gancore.errors import NonFiniteError, blame, during
from gancore.training.augmentations import AugmentedDiscriminator
from gancore.training.cuda_graph import Batches, Captured, CUDARecorder, unfit
from gancore.training.ema import update_average, weight_of
from gancore.training.finite import FiniteCheck
from gancore.training.gan import GAN
from gancore.training.networks import checked_loss, generate_images, judge, score_pair, together
from gancore.training.recovery import StepSnapshot, count_or_raise
from gancore.training.sync import across, average_statistics, broadcast_state, randomness
from gancore.training.update import Update


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did. The tensors stay on the device; `scalars` reads them, and waits for the device to do so.

    Losses, logits and penalties are those of the whole batch, whatever share of it this rank has.
    `skipped` says why the step changed nothing, if it was left out; its losses and logits are then NaN.
    `note` says what whoever watches the run should know of how it is computed, once.
    """

    step: int
    epoch: float
    images_seen: int
    seconds: float
    done: float
    discriminator_loss: Tensor
    generator_loss: Tensor
    real_logits: Tensor
    fake_logits: Tensor
    penalties: Mapping[str, Tensor]
    skipped: str = ""
    note: str = ""
    watch: FiniteCheck | None = field(default=None, repr=False, compare=False)

    def scalars(self) -> dict[str, float]:
        """Flat numbers: the losses, the mean logits of D's last update before its step, and what regularizers added.

        A regularizer that has its say in some updates only is told as it was in the last of these.
        Raises NonFiniteError when the device has found that an update of this step, or of one before, was not finite.
        """
        if self.watch is not None:
            self.watch.read()
        return {
            "step": self.step,
            "epoch": round(self.epoch, 4),
            "kimg": self.images_seen / 1000,
            "seconds": round(self.seconds, 3),
            "discriminator_loss": float(self.discriminator_loss),
            "generator_loss": float(self.generator_loss),
            "real_logit_mean": float(self.real_logits.mean()),
            "fake_logit_mean": float(self.fake_logits.mean()),
            **{f"penalty.{label}": float(penalty) for label, penalty in self.penalties.items()},
        }


def train(gan: GAN, *, joined: bool | None = None) -> Iterator[Step]:
    """Trains until the total of `gan.options.duration` is reached, and yields a record of every step.

    `joined` says whether D sees real and fake in one pass; by default it does where that changes nothing but rounding.
    Of several ranks, all go on from the state that rank 0 has when this is called, and must take the same steps.
    Raises NonFiniteError instead of an update whose loss or gradient is not finite, unless
    `gan.options.training.on_nonfinite` is `skip`: then the step is left out, so often as the limit says; WorkerError
    when another rank is gone.
    """
    broadcast_state(gan)
    return _train(gan, gan.joined if joined is None else joined)


def _train(gan: GAN, joined: bool) -> Iterator[Step]:
    progress, work, note = gan.progress, partial(_step, gan, joined), ""
    captured = None
    if gan.options.training.cuda_graph:
        note = unfit(gan)
        captured = None if note else Captured(gan, work, CUDARecorder(gan))
    batches = _Counted(gan.feed, progress.images_seen)
    begun = perf_counter() - progress.seconds
    while gan.done() < 1:
        undo = StepSnapshot(gan) if gan.options.training.on_nonfinite == "skip" else None
        skipped = ""
        try:
            with _apart(gan), during(f"at step {progress.step + 1}"):
                gan.watch.at(progress.step + 1)
                _keep_to_schedule(gan, "discriminator", gan.options.optimizer.discriminator)
                _keep_to_schedule(gan, "generator", gan.options.optimizer.generator)
                losses, added = (captured or work)(batches)
        except NonFiniteError as error:
            if undo is None:
                raise
            often = count_or_raise(gan, error)
            undo.back()
            skipped, added = f"{error.what}; the step is left out, {often}", {}
            losses = dict.fromkeys(_LOSSES, torch.tensor(torch.nan, device=gan.device))
        # All at once, so that an interrupted step is not half counted.
        gan.added = {**gan.added, **added}
        progress.step += 1
        progress.images_seen = batches.images_seen
        progress.seconds = perf_counter() - begun
        if gan.options.total.unit == "minutes":  # all ranks end by one clock
            progress.seconds = gan.ranks.broadcast(progress.seconds)
        yield Step(
            step=progress.step,
            epoch=progress.images_seen / gan.feed.size,
            images_seen=progress.images_seen,
            seconds=progress.seconds,
            done=gan.done(),
            penalties=gan.added,
            skipped=skipped,
            note=captured.note if captured else note,
            watch=gan.watch,
            **losses,
        )
        note = ""
    gan.watch.read()


@contextmanager
def _apart(gan: GAN) -> Iterator[None]:
    """A step in this block depends on nothing that the consumer has changed in torch, and changes nothing of it."""
    with randomness(gan), gan.precision.step(), torch.enable_grad():
        yield


_LOSSES = ("discriminator_loss", "generator_loss", "real_logits", "fake_logits")


class _Counted(Iterator[Batch]):
    """Batches, and how many images have been seen once those that were taken are counted: `count` in the last one.

    Those of all ranks count, of which a batch has this one's share.
    """

    def __init__(self, feed: Feed, images_seen: int) -> None:
        self._feed, self._batches = feed, feed.batches(images_seen)
        self.images_seen, self.count = images_seen, 0

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self.count = self._feed.count(self.images_seen)
        self.images_seen += self.count
        return batch


def _step(gan: GAN, joined: bool, batches: Batches) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One update of G after D's; returns its scores, and what regularizers added."""
    options = gan.options
    penalties: dict[str, Tensor] = {}
    critic = gan.judge()

    for number in range(options.training.discriminator_steps):
        parts = _parts(gan, next(batches), batches.count)
        # Only the fakes that G's step will score need a way back to G, and only those of a whole batch are kept.
        shared = options.training.fakes == "shared" and number == options.training.discriminator_steps - 1
        update = Update(gan, "discriminator", number)
        seen = [_discriminate(gan, critic, part, update, joined, keep=shared and len(parts) == 1) for part in parts]
        real, fake = (together(parts) for parts in zip(*seen, strict=True))
        if gan.ranks.is_distributed:
            real, fake = update.agree(batches.count, real, fake)
        update.finish()
        critic.observe(real)
        penalties |= update.penalties
        discriminator_loss = update.loss

    if not shared:
        sizes = [len(part.images) for part in parts]
        for part, latent in zip(parts, torch.split(gan.latent(batches.count), sizes), strict=True):
            part.latent = latent
    update = Update(gan, "generator", 0)
    with gan.freezer.frozen():
        for part in parts:
            _generate(gan, critic, part, update)
        if gan.ranks.is_distributed:
            update.agree(batches.count)
        update.finish()
    penalties |= update.penalties
    average_statistics(gan, sum(part.share for part in parts))

    if gan.ema is not None and options.ema is not None:
        new_images = batches.images_seen - gan.progress.images_seen
        update_average(gan.ema, gan.generator, weight_of(options.ema, gan.moment(new_images), new_images))
    scores = (discriminator_loss, update.loss, real.logits.detach(), fake.logits.detach())
    return dict(zip(_LOSSES, scores, strict=True)), penalties


@dataclass(slots=True)
class _Part:
    """So much of a batch as goes through the networks at once, and the latents of its fakes.

    `count` images are in the whole batch; `fakes` are there while they have a way back to G that its step can take.
    """

    images: Tensor
    labels: Tensor | None
    latent: Tensor
    count: int
    fakes: Tensor | None = None

    @property
    def share(self) -> float:
        """Of the whole batch."""
        return len(self.images) / self.count


def _parts(gan: GAN, batch: Batch, count: int) -> list[_Part]:
    most = gan.options.training.accumulate
    if most == 1:
        known = batch.labels if gan.num_classes is not None else None
        return [_Part(batch.images, known, gan.latent(count), count)]
    images, latents = (torch.chunk(each, most) for each in (batch.images, gan.latent(count)))
    labels = torch.chunk(batch.labels, most) if gan.num_classes is not None else [None] * len(images)
    return [_Part(*each, count) for each in zip(images, labels, latents, strict=True)]


def _discriminate(
    gan: GAN, critic: AugmentedDiscriminator, part: _Part, update: Update, joined: bool, *, keep: bool
) -> tuple[Scores, Scores]:
    """D's loss of a part, and what D said of it. Its fakes are kept for G's step if `keep` says so."""
    turn = update.turn
    with cached():  # one power iteration of spectral normalization, however often D is asked
        with gan.precision.products():
            with torch.set_grad_enabled(keep):
                images = generate_images(gan.generator, part.latent, part.labels)
            part.fakes = images if keep else None
            reals, fakes = turn.leaf("real", part.images), turn.leaf("fake", images.detach())
            # In one pass, the gradient of either would take the work of both.
            if joined and not (turn.differentiates("real") or turn.differentiates("fake")):
                real, fake = score_pair(critic, reals, fakes, part.latent, part.labels)
            else:
                real = judge(critic, reals, None, part.labels)
                fake = judge(critic, fakes, part.latent, part.labels)
        real, fake = across(gan, real, part.count), across(gan, fake, part.count)
        with blame("loss", "in discriminator()"):
            loss = checked_loss("discriminator", gan.objective.discriminator(real, fake), images)
        penalties = turn.penalties(critic.critic, real, fake)
    update.add(loss, penalties, part.share)
    return real, fake


def _generate(gan: GAN, critic: AugmentedDiscriminator, part: _Part, update: Update) -> None:
    """G's loss of a part."""
    images, turn = part.fakes, update.turn
    real = None
    with gan.precision.products():
        if images is None:
            images = generate_images(gan.generator, part.latent, part.labels)
        if gan.objective.needs_real or turn.due:
            with torch.set_grad_enabled(turn.differentiates("real")):
                real = across(gan, judge(critic, turn.leaf("real", part.images), None, part.labels), part.count)
        fake = across(gan, judge(critic, images, part.latent, part.labels), part.count)
    with blame("loss", "in generator()"):
        loss = checked_loss("generator", gan.objective.generator(fake, real), images)
    update.add(loss, {} if real is None else turn.penalties(critic.critic, real, fake), part.share)


def _keep_to_schedule(gan: GAN, player: str, settings: OptimizerSettings) -> None:
    if settings.scheduled:
        values = settings.at(gan.moment())
        for group in gan.optimizers[player].param_groups:
            if isinstance(group["lr"], Tensor):  # a graph reads it where it lies
                group["lr"].fill_(values.pop("lr"))
            group.update(values)
