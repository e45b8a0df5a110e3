"""Records a run: writes log, pictures, evaluations and checkpoints when they are due."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
from torch import Tensor

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.config.picture_rules import PICTURES
from gancore.config.run import RunConfig
from gancore.errors import ConfigError, GancoreError, NonFiniteError, NumericsError, StorageError, describe_error
from gancore.evaluation.collapse import SAMPLE_COUNT, CollapseGuard
from gancore.evaluation.evaluator import Evaluation, Evaluator
from gancore.evaluation.sources import ReferenceImages
from gancore.observers import JSONL, RunInfo
from gancore.run.collapse_advice import advice, continuation
from gancore.run.directory import REAL, RunDirectory, describe
from gancore.run.interrupt import Interruption
from gancore.run.lockstep import Coordinator
from gancore.run.log import PendingTask, RecorderState, recorder_state, truncate_log
from gancore.run.notify import Notifier
from gancore.sampling.grid import REAL_POINTS, is_picture, picture
from gancore.sampling.sheet import can_draw, sheet
from gancore.training.gan import GAN
from gancore.training.loop import Step, train
from gancore.training.recovery import count_or_raise, roll_back
from gancore.utils.atomic import atomic_write, flush, writing
from gancore.utils.random import derive_seed
from gancore.utils.threads import computing_with

_PICTURE_KIMG = 100.0
"""Thousands of images between sample grids, unless the config says."""
_PICTURE_SHARE = 0.1
"""The share of its time that a run in minutes takes for pictures at most, without an interval of its own."""

LogLine = dict[str, float]


@dataclass(frozen=True)
class Session:
    """A run that is ready to train. `evaluator` must be prepared; a run without metrics needs none.

    `data` is what was understood of the data, as in the manifest, for observers.
    """

    config: RunConfig
    catalog: Catalog
    directory: RunDirectory
    gan: GAN
    evaluator: Evaluator | None = None
    interruption: Interruption = field(default_factory=Interruption)
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A step, and what was recorded after it: a line of the log, an evaluation, warnings, notes, or none of these."""

    step: Step
    metrics: LogLine | None = None
    evaluation: Evaluation | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Late:
    """What a resume makes up for after the last step of a run, and so is in no record: an evaluation, and warnings."""

    step: int
    evaluation: Evaluation | None
    warnings: tuple[str, ...]


Records = Generator[Record, None, None]
"""Iterator of records; each record asked for trains one step, and closing it ends the run."""


def record(
    steps: Iterator[Step],
    session: Session,
    state: RecorderState | None = None,
    late: Callable[[Late], None] | None = None,
) -> Records:
    """Write log, evaluations, pictures and checkpoints while the run takes its steps; yield a record of each step.

    After the last step everything is written. A run that ends earlier, because the consumer asks for no more steps, an
    interruption arrives, or work between two steps fails, leaves a checkpoint. Recording changes nothing in training.
    `state` is the recorder's state in the checkpoint that the GAN was restored from. `late` is called with what no
    record has. With several ranks, rank 0 calls this and the others call `follow`.
    Raises StorageError when something cannot be written, NumericsError when the run stops at a collapse, and its
    subclass NonFiniteError when numbers are not finite and `training.on_nonfinite` does not let the run continue.
    """
    if session.config.metrics and session.evaluator is None:
        raise ConfigError("the run has metrics, but no evaluator was given", "give the session an evaluator")
    return Recorder(session, state, late).records(steps)


def due_after(
    step: Step, images_before: int, done_before: float, config: RunConfig
) -> list[Literal["log", "checkpoint", "report"] | PendingTask]:
    """Return what is due after `step`, in order.

    `images_before` is the number of images seen before it, `done_before` the share of the run that was done.
    """
    last = step.done >= 1

    def interval_ended(kimg: float) -> bool:
        return int(step.images_seen / (1000 * kimg)) > int(images_before / (1000 * kimg))

    if _draws_by_time(config):
        draw = int(step.done * PICTURES) > int(done_before * PICTURES)
    else:
        draw = interval_ended(config.sample.every_kimg or _PICTURE_KIMG)

    evaluate = interval_ended(config.evaluate.every_kimg)
    guard = evaluate and config.evaluate.on_collapse != "ignore"  # the guard compares whole intervals only
    due: dict[Literal["log", "checkpoint", "report"] | PendingTask, bool] = {
        "log": last or step.step % config.log.every_steps == 0,
        "samples": last or draw,
        "checkpoint": last or step.step % config.checkpoint.every_steps == 0,
        "guarded evaluation": guard,
        "evaluation": bool(config.metrics) and (evaluate or last) and not guard,
        "report": config.report is not None and (last or interval_ended(config.report.every_kimg)),
    }
    return [task for task, is_due in due.items() if is_due]


def _draws_by_time(config: RunConfig) -> bool:
    return config.sample.every_kimg is None and config.total.unit == "minutes"


class Recorder:
    """Writes what `due_after` says. `state` is that of a checkpoint; None for a new run."""

    def __init__(
        self, session: Session, state: RecorderState | None, late: Callable[[Late], None] | None = None
    ) -> None:
        self._config, self._directory, self._gan = session.config, session.directory, session.gan
        self._evaluator, self._interruption = session.evaluator, session.interruption
        self._deferred, self._coordinator = session.interruption.deferred, Coordinator(session.gan.ranks)
        self._config_data = session.config.to_data(session.catalog)
        self._catalog = session.catalog
        self._made_with = describe(session.config, session.catalog, session.gan.device, session.gan.ranks.size)
        # The rest of the manifest, so that it can be restored if it is damaged.
        about_this_run = {*self._made_with, "data", "resumed"}
        entries = session.directory.read_manifest().entries
        self._origin = {key: value for key, value in entries.items() if key not in about_this_run}
        info = RunInfo(session.directory.path, self._config_data, session.gan.progress.step, session.data)
        # The log is not an optional observer: without it the run ends.
        self._log = JSONL().build(info)
        others = {label: other for label, other in session.config.observers.items() if not isinstance(other, JSONL)}
        self._notifier = Notifier(others, info, session.catalog)
        self._warnings: list[str] = []
        self._has_noted_workers = False
        self._drawn_at = self._drawing_seconds = 0.0  # the end of the newest picture by `perf_counter`, and its time
        self._show_late = late
        self._saved = None if state is None else session.gan.progress.step
        self._reset(state or RecorderState(pending=["samples", "evaluation"]))

    def _reset(self, state: RecorderState) -> None:
        progress = self._gan.progress
        self._state = state
        self._penalties: dict[str, Tensor] = {}  # those of the newest step
        self._images_seen = self._logged_images = progress.images_seen
        self._done = self._gan.done()
        self._logged_seconds = progress.seconds  # plus the time off the clock since then
        # A new run is saved first, so that a state that cannot be saved is found before the first step.
        self._save_is_due = self._saved is None
        # The report at the end of a run comes after an evaluation that a resumed run makes up for.
        self._report_is_due = self._config.report is not None and self._done >= 1

    def records(self, steps: Iterator[Step]) -> Records:
        """See `record`."""
        with self._coordinator.leading(), self._notifier.attached():
            while True:
                try:
                    yield from self._records(steps)
                    return
                except NonFiniteError as error:
                    self._roll_back(error)
                with self._deferred():
                    self._coordinator.roll_back()
                    steps = train(self._gan)

    def _records(self, steps: Iterator[Step]) -> Iterator[Record]:
        try:
            with computing_with(self._gan.choice.threads):
                _ = self._guard  # reads real images, so that unreadable data ends the run before the first step
                self._draw_real()
                evaluation = self._run_pending()  # of a new run before its first step, or pending in a resumed run
            if self._done >= 1 and self._show_late:  # only that was missing
                self._show_late(Late(self._gan.progress.step, evaluation, self._take_warnings()))
            while True:
                self._interruption.check()
                with self._deferred():
                    with self._coordinator.step():
                        step = next(steps, None)
                    if step is None:
                        return
                    metrics = self._finish_step(step)
                    notes = self._note_workers()
                with self._off_the_clock(), computing_with(self._gan.choice.threads):
                    evaluation = self._run_pending()
                yield Record(step, metrics, evaluation, self._take_warnings(), notes)
        except (NumericsError, StorageError):  # the state is not sound, or there is no room to save it
            raise
        except BaseException as error:  # the run is interrupted, or a metric, for example, failed after a complete step
            # A step that was cut short must not be saved as a whole one.
            if self._coordinator.at_step_boundary and self._saved != self._gan.progress.step:
                with suppress(GancoreError) if isinstance(error, Exception) else nullcontext():
                    self._save()
            raise

    def _take_warnings(self) -> tuple[str, ...]:
        warnings = (*self._warnings, *self._notifier.warnings())
        self._warnings.clear()
        return warnings

    def _roll_back(self, error: NonFiniteError) -> None:
        """Restore the newest valid checkpoint if `training.on_nonfinite` is `rollback`; raise the error otherwise.

        Also raises it beyond `training.nonfinite_limit`, and when there is no checkpoint yet.
        """
        gan, directory = self._gan, self._directory
        with suppress(StorageError):  # the first error is the one to report
            self._note_event("nonfinite", error.step, error.message)
        rolls_back = gan.options.training.on_nonfinite == "rollback"
        chosen = checkpoint.newest_valid(directory.checkpoints) if rolls_back else None
        found = chosen.checkpoint if chosen else None
        if chosen is None or found is None:
            raise error
        count = count_or_raise(gan, error)
        roll_back(gan, found)
        state = recorder_state(found.about, directory.path)
        self._saved, directory.saved = gan.progress.step, chosen.path
        directory.damaged |= {path for path, _ in chosen.rejected}
        truncate_log(directory.metrics, self._saved, state.lines)
        directory.discard_evaluation(self._saved)
        self._warnings += chosen.warnings
        self._warnings.append(f"{error}; back at step {self._saved} with other noise, {count}")
        self._reset(state)

    def _finish_step(self, step: Step) -> LogLine | None:
        """Set what is due after a step; return the line of the log, if one was due."""
        due = due_after(step, self._images_seen, self._done, self._config)
        if "samples" in due and step.done < 1 and not self._has_time_for_a_picture():
            due.remove("samples")
        self._images_seen, self._done, self._penalties = step.images_seen, step.done, dict(step.penalties)
        self._warnings += [text for text in (step.skipped, step.note) if text]
        if step.skipped:
            self._note_event("nonfinite", step.step, step.skipped)
        self._state.lines, self._save_is_due = 0, "checkpoint" in due
        self._report_is_due = "report" in due
        self._state.pending = [task for task in due if task != "log" and task != "checkpoint" and task != "report"]
        return self._log_step(step) if "log" in due else None

    def _note_workers(self) -> tuple[str, ...]:
        """Note in the manifest how many workers load the data, once that is chosen; return the lines to show."""
        choice = self._gan.feed.workers_choice
        if choice is None or self._has_noted_workers:
            return ()
        self._has_noted_workers = True
        self._directory.note({"workers": asdict(choice)})
        return (str(choice),)

    def _run_pending(self) -> Evaluation | None:
        """Do everything that is due after the newest step, and end observers after the last one of the run."""
        pending, is_last = self._state.pending, self._done >= 1
        was_pending = bool(pending)
        if "samples" in pending:
            self._draw_picture()
            pending.remove("samples")
        if self._save_is_due and (pending or not is_last):
            self._save()
        evaluation, alarm = self._evaluate(guarded="guarded evaluation" in pending) if pending else (None, None)
        change = advice(self._config_data, self._gan.spec, self._gan.feed.size, self._directory.path) if alarm else ""
        advised = "; ".join(filter(None, [alarm, change]))
        if advised:
            self._note_event("collapse", self._gan.progress.step, advised)
        if alarm and self._config.evaluate.on_collapse == "stop":
            self._draw_picture()
            self._save()
            raise NumericsError(
                f"stopped at step {self._gan.progress.step}: {alarm}",
                f"{change or 'try a lower learning rate for the discriminator'}; "
                f"or continue the run: {continuation(self._config_data, self._directory.path)}",
            )
        self._warnings += [advised] if advised else []
        # A resume makes up for nothing of a run whose last checkpoint has nothing pending.
        with self._deferred() if is_last else nullcontext():
            if is_last and was_pending:
                self._save()
            if self._report_is_due:
                self._report_is_due = False
                self._write_report()
            if is_last:
                self._notifier.end("finished")
        return evaluation

    def _write_report(self) -> None:
        """Write the page about the run. Whatever prevents it is a warning: the run itself is well."""
        try:
            # Imports matplotlib, which few runs need.
            from gancore.report.page import REPORT, page_of, write_page
            from gancore.report.view import Sources

            path = self._directory.path / REPORT
            sources = Sources(self._catalog, "cpu", None)
            write_page(page_of([self._directory.path], sources), path)
            self._notify_file(path)
        except Exception as error:
            why = str(error) if isinstance(error, GancoreError) else describe_error(error)
            self._warnings.append(f"the report was not written: {why}")

    def _note_event(self, kind: str, step: int, text: str) -> None:
        with self._off_the_clock():
            self._directory.note_event(kind, step, self._gan.progress.images_seen / 1000, text)

    def _log_step(self, step: Step) -> LogLine:
        line = step.scalars()
        # A lazy regularizer may not have been active since the checkpoint.
        earlier = {f"penalty.{label}": value for label, value in self._state.penalties.items()}
        line = line | earlier | line  # numbers of the step win, and come first
        elapsed = max(step.seconds - self._logged_seconds, 1e-9)
        line["images_per_second"] = round((step.images_seen - self._logged_images) / elapsed, 1)
        self._logged_seconds, self._logged_images = step.seconds, step.images_seen
        with self._off_the_clock():
            self._write(line)
        return line

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        """Leave the time of this block out of `images_per_second`."""
        begun = perf_counter()
        yield
        self._logged_seconds += perf_counter() - begun

    def _write(self, line: LogLine) -> None:
        with writing(self._directory.metrics):
            self._log.scalars(line)
        self._state.lines += 1
        self._notifier.scalars(line)

    def _evaluate(self, *, guarded: bool) -> tuple[Evaluation | None, str | None]:
        """Measure samples with the metrics and, if `guarded`, the collapse guard; return also the guard's alarm."""
        guard, evaluator, state = self._guard if guarded else None, self._evaluator, self._state
        if evaluator is None and guard is None:
            state.pending = []
            return None, None
        samples = self._draw(self._sample_count, self._config.seed, self._evaluation_conditions)
        now, alarm = self._gan.progress, None
        line: LogLine = {"step": now.step, "kimg": now.images_seen / 1000, "seconds": round(now.seconds, 3)}
        diversity = guard.diversity(self._gan.feed.format.comparable(samples)) if guard else None
        evaluation = None
        if evaluator:
            asked = self._evaluation_conditions
            asked = None if asked is None else asked[: evaluator.count]
            evaluation = evaluator.evaluate(samples[: evaluator.count], asked)
        self._interruption.check()  # a metric that swallows a signal has no result
        with self._deferred():
            state.pending = []
            if guard:
                guard.low = state.low
                alarm = guard.alarm(diversity)
                state.low = guard.low
                line["diversity"] = math.nan if diversity is None else diversity
            if evaluation:
                line |= evaluation.numbers()
                self._save_if_best(evaluation)
                self._directory.write_evaluation(now.step, evaluation)
                self._notify_file(self._directory.evaluation)
            self._write(line)
        return evaluation, alarm

    def _save_if_best(self, evaluation: Evaluation) -> None:
        name, best = self._config.checkpoint.best, self._state.best
        for result in evaluation.results:
            value = result.measured.value
            if result.name != name or not math.isfinite(value):
                continue
            if best is None or (value < best if result.better == "lower" else value > best):
                self._state.best = value
                path = checkpoint.best_of(self._directory.checkpoints)
                self._directory.make_folders()
                checkpoint.save(path, self._tensors(), self._about() | {"best": {"metric": name, "value": value}})
                self._notify_file(path)

    def _draw_real(self) -> None:
        """Draw a contact sheet of the data if it can be drawn, unless that was done before the run was interrupted."""
        path = self._directory.samples / REAL
        if path.exists() or not can_draw(self._gan.feed.shape):
            return
        try:
            drawn = sheet(self._gan.feed)
        except GancoreError:  # the data cannot be read
            raise
        except Exception as error:
            self._warnings.append(f"the contact sheet of the data cannot be drawn: {describe_error(error)}")
            return
        with self._deferred():
            self._directory.make_folders()
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                drawn.save(file, "PNG")
            self._notifier.image(self._gan.progress.step, "real", drawn)
            self._notify_file(path)

    def _has_time_for_a_picture(self) -> bool:
        """Return whether the time since the newest picture is long enough for what that has taken."""
        since = perf_counter() - self._drawn_at
        return not _draws_by_time(self._config) or since * _PICTURE_SHARE >= self._drawing_seconds

    def _draw_picture(self) -> None:
        begun = perf_counter()
        seed = derive_seed(self._config.seed, "samples")
        samples = self._draw(self._config.sample.count, seed, self._picture_conditions)
        step = self._gan.progress.step
        limits = self._gan.feed.format.value_range  # those of real.png
        image = picture(samples, self._real_points, limits) if is_picture(samples.shape[1:]) else None
        path = self._directory.samples / f"step-{step:08d}.{'png' if image else 'npy'}"
        with self._deferred():
            self._directory.make_folders()
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                if image:
                    image.save(file, "PNG")
                else:
                    np.save(file, samples.numpy(), allow_pickle=False)
            if image:
                self._notifier.image(step, "samples", image)
            self._notify_file(path)
        self._drawn_at = perf_counter()
        self._drawing_seconds = self._drawn_at - begun

    def _draw(self, count: int, seed: int, conditions: Tensor | None) -> Tensor:
        """Return samples (N, *shape) as the data is stored, always from the same noise."""
        gan = self._gan
        gan.finite_check.raise_if_found()  # report the first non-finite value, not what follows from it
        try:
            with self._deferred() if gan.ranks.is_distributed else nullcontext():
                return self._coordinator.samples(gan, count, seed, conditions)
        except NumericsError as error:
            raise NonFiniteError(gan.progress.step, error.message) from error

    @cached_property
    def _training_images(self) -> ReferenceImages:
        return ReferenceImages(self._config.dataset.name, self._gan.feed.dataset, self._config.dataset)

    @cached_property
    def _guard(self) -> CollapseGuard | None:
        if self._config.evaluate.on_collapse == "ignore":
            return None
        real = self._training_images.draw(SAMPLE_COUNT, self._config.seed, "guard")
        return CollapseGuard(self._gan.feed.format.comparable(real))

    @cached_property
    def _sample_count(self) -> int:
        """The number of samples of an evaluation."""
        return max(SAMPLE_COUNT if self._guard else 0, self._evaluator.count if self._evaluator else 0)

    @cached_property
    def _evaluation_conditions(self) -> Tensor | None:
        """Conditions (N, …) of an evaluation, as frequent as in the data; None in a run that is not conditional."""
        if self._gan.spec.condition is None:
            return None
        return self._training_images.draw_conditions(self._sample_count, self._config.seed, "evaluation")

    @cached_property
    def _picture_conditions(self) -> Tensor | None:
        """Tensors (N, …) for sample pictures, from the data; None for other runs: classes are drawn in turn."""
        if not isinstance(self._gan.spec.condition, tuple):
            return None
        return self._training_images.draw_conditions(self._config.sample.count, self._config.seed, "pictures")

    @cached_property
    def _real_points(self) -> Tensor | None:
        """Real points (M, 2) to plot behind generated ones; None for other data."""
        if self._gan.feed.shape != (2,):
            return None
        return self._training_images.draw(REAL_POINTS, self._config.seed, "points")

    def _save(self) -> None:
        folder, log, step = self._directory.checkpoints, self._directory.metrics, self._gan.progress.step
        with self._deferred():
            path = checkpoint.path_of(folder, step)
            with writing(log):
                if log.exists():
                    flush(log)  # the log on the disk must never lag behind the checkpoint
            self._directory.make_folders()
            checkpoint.save(path, self._tensors(), self._about())
            self._saved, self._directory.saved = step, path
            self._directory.damaged.discard(path)
            checkpoint.prune(folder, self._config.checkpoint.keep, step, self._directory.damaged)
            self._notify_file(path)

    def _notify_file(self, path: Path) -> None:
        self._notifier.file(self._gan.progress.step, path)

    def _tensors(self) -> dict[str, Tensor]:
        """Return the state to save. Raises NonFiniteError when it is not finite."""
        self._gan.finite_check.raise_if_found()  # on CUDA, the checks of this step are read only here
        self._gan.refresh_averages()
        tensors = self._gan.state.tensors()
        if unfit := self._gan.state.not_finite(tensors):
            raise NonFiniteError(self._gan.progress.step, f"{unfit[0]} is not finite, so no checkpoint was written")
        return tensors

    def _about(self) -> dict[str, object]:
        self._state.penalties |= {label: float(value) for label, value in self._penalties.items()}
        return {
            "config": self._config_data,
            "data_format": self._gan.feed.describe(self._gan.spec),
            "progress": self._gan.state.place(),
            "data": self._gan.feed.fingerprint,
            "recorded": self._state.model_dump(),
            "made_with": self._made_with,
            "origin": self._origin,
        }
