"""The training loop: a generator function that steps a GAN and yields a record of each step.

The consumer logs, draws samples, saves or stops; the loop does none of these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor

from gancore.data.feed import Batch
from gancore.errors import NonFiniteError, PluginError, during
from gancore.training.adapted import logged_numbers
from gancore.training.cuda_graph import EXPERIMENTAL, CapturedStep, CUDARecorder, reason_against_capture
from gancore.training.finite import FiniteCheck
from gancore.training.gan import GAN
from gancore.training.recovery import StepSnapshot, count_or_raise
from gancore.training.step import StepResult, step
from gancore.training.sync import broadcast_state, own_randomness
from gancore.utils.threads import computing_with


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step. Tensors stay on the device; `scalars` copies them to the host, which waits for that.

    Losses, logits (N, K) and penalties are those of the whole batch over all ranks. `adapted` has the numbers that
    augmentations log, by LABEL.NAME. `done` is the finished share of the run. `skipped` says why the step changed
    nothing, if it was skipped; its losses and logits are then NaN. `note` holds a warning about how steps are computed,
    once.
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
    adapted: Mapping[str, Tensor] = field(default_factory=dict)
    skipped: str = ""
    note: str = ""
    finite_check: FiniteCheck | None = field(default=None, repr=False, compare=False)

    def scalars(self) -> dict[str, float]:
        """Return plain numbers: losses, mean logits of D's last update before it changed D, penalties, `adapted`.

        A lazy regularizer (interval > 1) reports its most recent value. Raises NonFiniteError if the device has found
        that an update of this step, or of an earlier one, was not finite.
        """
        if self.finite_check is not None:
            self.finite_check.raise_if_found()
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
            **{f"augmentation.{name}": float(number) for name, number in self.adapted.items()},
        }


def train(gan: GAN) -> Iterator[Step]:
    """Train until `gan.options.duration` is reached, and yield a record of each step.

    All ranks start from the state that rank 0 has when this is called, and must take the same steps. Raises
    NonFiniteError before an update whose loss or gradient is not finite; with `gan.options.training.on_nonfinite`
    `skip` such a step is skipped instead, as many times as `nonfinite_limit` allows. Raises WorkerError when another
    rank is gone. Warnings of the preflight, which `GAN` has run, are given by `warnings.warn`.
    """
    found = gan.take_warnings()
    for warning in found if gan.ranks.is_main else ():
        warnings.warn(warning, stacklevel=2)
    broadcast_state(gan)
    return _train(gan)


def _train(gan: GAN) -> Iterator[Step]:
    progress, training = gan.progress, gan.options.training
    warning = reason_against_capture(gan) if training.cuda_graph else ""
    captured = CapturedStep(gan, step, CUDARecorder(gan)) if training.cuda_graph and not warning else None
    warning = EXPERIMENTAL if captured else warning
    batches = gan.feed.batches(progress.images_seen, conditional=gan.spec.condition is not None)
    penalties: dict[str, Tensor] = {}  # the most recent of each regularizer
    one_clock = gan.options.total.unit == "minutes"  # by which all ranks stop
    started, done = perf_counter() - progress.seconds, gan.done()
    while done < 1:
        snapshot = StepSnapshot(gan) if training.on_nonfinite == "skip" else None
        skipped, taken = "", list[int]()
        try:
            own = _counted(islice(batches, training.discriminator_steps), taken)
            result = _take_step(gan, captured or step, own)
        except NonFiniteError as error:
            if snapshot is None:
                raise
            count = count_or_raise(gan, error)
            snapshot.restore()
            skipped, result = f"{error.what}; the step is skipped, {count}", _no_result(gan.device)
        # All at once, so that an interrupted step is not half counted.
        penalties |= result.penalties
        progress.step += 1
        progress.images_seen += sum(taken)
        progress.seconds = perf_counter() - started
        if one_clock:
            progress.seconds = gan.ranks.broadcast(progress.seconds)
        done = gan.done()
        yield Step(
            step=progress.step,
            epoch=progress.images_seen / gan.feed.size,
            images_seen=progress.images_seen,
            seconds=progress.seconds,
            done=done,
            discriminator_loss=result.discriminator_loss,
            generator_loss=result.generator_loss,
            real_logits=result.real_logits,
            fake_logits=result.fake_logits,
            penalties=dict(penalties),
            adapted=logged_numbers(gan.augments) if gan.augments else {},
            skipped=skipped,
            note=(captured.warning if captured else "") or warning,
            finite_check=gan.finite_check,
        )
        warning = ""
    gan.finite_check.raise_if_found()


def _take_step(gan: GAN, take: Callable[[GAN, Iterable[Batch]], StepResult], batches: Iterable[Batch]) -> StepResult:
    """Take a step with the threads, random numbers, precision and schedules of the run. Raises as `step` does."""
    number = gan.progress.step + 1
    try:
        with (
            computing_with(gan.choice.threads),
            own_randomness(gan),
            gan.precision.float32_products(),
            torch.enable_grad(),
        ):
            gan.finite_check.begin_step(number)
            gan.apply_schedules()
            return take(gan, batches)
    except PluginError:
        with during(f"at step {number}"):
            raise


def _counted(batches: Iterable[Batch], taken: list[int]) -> Iterator[Batch]:
    """Yield the batches, and append the number of images of each: a skipped step counts only those D has seen."""
    for batch in batches:
        taken.append(batch.total)
        yield batch


def _no_result(device: torch.device) -> StepResult:
    """Return the result of a skipped step."""
    nan = torch.tensor(torch.nan, device=device)
    return StepResult(nan, nan, nan, nan, {})
