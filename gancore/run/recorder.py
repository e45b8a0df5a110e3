"""Recording a run: its log, pictures, evaluations and checkpoints, each written when it is due."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from torch import Tensor

from gancore.checkpoint import store as checkpoint
from gancore.errors import ConfigError, GancoreError, NonFiniteError, NumericsError, StorageError
from gancore.evaluation.evaluator import Evaluation
from gancore.observers import JSONL, RunInfo
from gancore.run.directory import describe
from gancore.run.due import due_after
from gancore.run.lockstep import Coordinator
from gancore.run.log import PendingTask, RecorderState, recorder_state, truncate_log
from gancore.run.notify import Notifier
from gancore.run.sampler import Sampler
from gancore.run.session import Session
from gancore.sampling.grid import is_picture, picture
from gancore.training.loop import Step, train
from gancore.training.recovery import count_or_raise, roll_back
from gancore.utils.atomic import atomic_write, flush, writing
from gancore.utils.json import json_safe

LogLine = dict[str, float]


@dataclass(frozen=True)
class Record:
    """A step, and what was recorded after it: a line of the log, an evaluation, warnings, or none of these."""

    step: Step
    metrics: LogLine | None = None
    evaluation: Evaluation | None = None
    warnings: tuple[str, ...] = ()


Records = Generator[Record, None, None]
"""Records of a run that trains while they are asked for; closing ends the run."""


def record(steps: Iterator[Step], session: Session, state: RecorderState | None = None) -> Records:
    """Write log, evaluations, pictures and checkpoints while the run takes its steps; yield a record of each step.

    After the last step everything is written. A run that ends earlier, because the consumer asks for no more steps, an
    interruption arrives, or work between two steps fails, leaves a checkpoint. Recording changes nothing in training.
    `state` is that of the recorder at the checkpoint that the GAN was restored from. With several ranks this is rank
    0's side; the others `follow`.
    Raises StorageError when something cannot be written, NumericsError when the run is to stop at a collapse, and its
    subclass NonFiniteError when numbers are not finite and `training.on_nonfinite` does not say to continue.
    """
    if session.config.metrics and session.evaluator is None:
        raise ConfigError("the run has metrics, but no evaluator was given", "give the session an evaluator")
    coordinator = Coordinator(session.gan.ranks)
    recorder = Recorder(session, coordinator, state)
    deferred = session.interruption.deferred
    with coordinator.leading(), recorder.notifier.attached():
        while True:
            try:
                yield from _records(steps, recorder, session, coordinator)
                return
            except NonFiniteError as error:
                _roll_back(session, recorder, error)
            with deferred():
                coordinator.roll_back()
                steps = train(session.gan)


def _roll_back(session: Session, recorder: Recorder, error: NonFiniteError) -> None:
    """Restore the newest valid checkpoint if `training.on_nonfinite` is `rollback`; raise the error otherwise.

    Also raises it beyond `training.nonfinite_limit`, and when there is no checkpoint yet.
    """
    gan, directory = session.gan, session.directory
    if gan.options.training.on_nonfinite != "rollback":
        raise error
    found = checkpoint.newest_valid(directory.checkpoints).checkpoint
    if found is None:
        raise error
    count = count_or_raise(gan, error)
    roll_back(gan, found)
    state = recorder_state(found.about, directory.path)
    truncate_log(directory.metrics, gan.progress.step, state.lines)
    recorder.rewind(state, f"{error}; back at step {gan.progress.step} with other noise, {count}")


def _records(steps: Iterator[Step], recorder: Recorder, session: Session, coordinator: Coordinator) -> Iterator[Record]:
    deferred = session.interruption.deferred
    try:
        recorder.begin()
        while True:
            session.interruption.check()
            with deferred():
                with coordinator.step():
                    step = next(steps, None)
                if step is None:
                    return
                metrics = recorder.take(step)
            evaluation = recorder.run_pending()
            if step.done >= 1:
                recorder.notifier.end("finished")
            yield Record(step, metrics, evaluation, recorder.warnings())
    except (KeyboardInterrupt, GeneratorExit):
        if coordinator.at_step_boundary:  # a step that was cut short must not be saved as a whole one
            with deferred():
                recorder.save_once()
        raise
    except (NumericsError, StorageError):  # the state is not sound, or there is no room to save it
        raise
    except Exception:  # a metric, for example, failed after a complete step
        if coordinator.at_step_boundary:
            with deferred(), suppress(GancoreError):
                recorder.save_once()
        raise


class Recorder:
    """Writes what `due_after` says. `state` is that of a checkpoint; None for a new run."""

    def __init__(self, session: Session, coordinator: Coordinator, state: RecorderState | None) -> None:
        self._config, self._directory, self._gan = session.config, session.directory, session.gan
        self._evaluator, self._deferred = session.evaluator, session.interruption.deferred
        self._sampler = Sampler(session, coordinator)
        self._config_data = session.config.to_data(session.catalog)
        self._made_with = describe(session.config, session.catalog, session.gan.device, session.gan.ranks.size)
        info = RunInfo(session.directory.path, self._config_data, session.gan.progress.step)
        # The log is not an optional observer: without it the run ends.
        self._log = JSONL().build(info)
        others = {label: each for label, each in session.config.observers.items() if not isinstance(each, JSONL)}
        self.notifier = Notifier(others, info, session.catalog)
        self._warnings: list[str] = []
        self._is_new = state is None
        self._set_state(state or RecorderState(pending=["samples", "evaluation"]))

    def _set_state(self, state: RecorderState) -> None:
        progress = self._gan.progress
        self._pending: list[PendingTask] = list(state.pending)
        self._lines, self._best, self._low = state.lines, state.best, state.low
        self._earlier_penalties, self._penalties = state.penalties, dict[str, Tensor]()
        self._saved: int | None = None if self._is_new else progress.step
        self._saved_with_pending = bool(self._pending)
        self._save_is_due = self._last = False
        self._images_seen = progress.images_seen
        self._logged, self._off_the_clock_seconds = (progress.seconds, progress.images_seen), 0.0

    def rewind(self, state: RecorderState, warning: str) -> None:
        """Continue from the checkpoint with this state, to which the GAN was rolled back."""
        self._is_new = False
        self._warnings.append(warning)
        self._set_state(state)

    def begin(self) -> None:
        """Write what is due before the first step of a new run, or what is still pending in a resumed one."""
        self._last = self._gan.done() >= 1
        _ = self._sampler.guard  # reads real images; data that cannot be read ends the run before the first step
        # A new run is saved first, so that a state that cannot be saved is found before the first step.
        self._run_pending(save=self._is_new)

    def take(self, step: Step) -> LogLine | None:
        """Note what is due after a step; return the line that was logged, if one was due."""
        due = due_after(step, self._images_seen, self._config)
        self._images_seen, self._penalties = step.images_seen, dict(step.penalties)
        self._warnings += [text for text in (step.skipped, step.note) if text]
        self._lines, self._pending = 0, list(due.tasks)
        self._save_is_due, self._last = due.checkpoint, due.last
        return self._log_step(step) if due.log else None

    def run_pending(self) -> Evaluation | None:
        """Do what is due after the step that was taken."""
        with self._off_the_clock():
            return self._run_pending(save=self._save_is_due)

    def save_once(self) -> None:
        """Save a checkpoint of the last step, unless that was done."""
        if self._saved != self._gan.progress.step:
            self._save()

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings since the last call."""
        warnings = (*self._warnings, *self.notifier.warnings())
        self._warnings.clear()
        return warnings

    def _run_pending(self, *, save: bool) -> Evaluation | None:
        if "samples" in self._pending:
            self._draw_picture()
            self._pending.remove("samples")
        if save:
            with self._deferred():
                self._save()
        evaluation, alarm = None, None
        for task in tuple(self._pending):
            evaluation, alarm = self._evaluate(guarded=task == "guarded evaluation")
        if alarm and self._config.evaluate.on_collapse == "stop":
            self._draw_picture()
            self._save()
            raise NumericsError(
                f"stopped at step {self._gan.progress.step}: {alarm}",
                "try a lower learning rate for the discriminator; --set evaluate.on_collapse=warn trains on",
            )
        self._warnings += [alarm] if alarm else []
        if self._last and self._saved_with_pending:
            with self._deferred():
                self._save()  # so that the last checkpoint of a finished run has nothing pending
        return evaluation

    def _log_step(self, step: Step) -> LogLine:
        line = step.scalars()
        # A lazy regularizer may not have been active since the checkpoint.
        earlier = {f"penalty.{label}": value for label, value in self._earlier_penalties.items()}
        line = line | earlier | line  # numbers of the step win, and come first
        seconds, images = self._logged
        elapsed = max(step.seconds - seconds - self._off_the_clock_seconds, 1e-9)
        line["images_per_second"] = round((step.images_seen - images) / elapsed, 1)
        self._logged, self._off_the_clock_seconds = (step.seconds, step.images_seen), 0.0
        with self._off_the_clock():
            self._write(line)
        return line

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        """Leave the time of this block out of `images_per_second`."""
        begun = perf_counter()
        yield
        self._off_the_clock_seconds += perf_counter() - begun

    def _write(self, line: LogLine) -> None:
        with writing(self._directory.metrics):
            self._log.scalars(line)
        self._lines += 1
        self.notifier.scalars(line)

    def _evaluate(self, *, guarded: bool) -> tuple[Evaluation | None, str | None]:
        """Measure samples with the metrics and, if `guarded`, the collapse guard; return also the guard's alarm."""
        guard, evaluator = self._sampler.guard if guarded else None, self._evaluator
        if evaluator is None and guard is None:
            self._pending = []
            return None, None
        samples, now = self._sampler.for_evaluation(), self._gan.progress
        line: LogLine = {"step": now.step, "kimg": now.images_seen / 1000, "seconds": round(now.seconds, 3)}
        diversity = guard.diversity(samples) if guard else None
        evaluation = evaluator.evaluate(samples[: evaluator.count]) if evaluator else None
        alarm = None
        with self._deferred():
            self._pending = []
            if guard:
                guard.low = self._low
                alarm = guard.alarm(diversity)
                self._low = guard.low
                line["diversity"] = math.nan if diversity is None else diversity
            if evaluation:
                line |= evaluation.numbers()
                self._save_if_best(evaluation)
                self._write_evaluation(evaluation)
            self._write(line)
        return evaluation, alarm

    def _write_evaluation(self, evaluation: Evaluation) -> None:
        """Write the newest evaluation with the details that the log leaves out."""
        document = json_safe({"step": self._gan.progress.step, **evaluation.to_data()})
        with atomic_write(self._directory.evaluation) as path:
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        self._notify_file(self._directory.evaluation)

    def _save_if_best(self, evaluation: Evaluation) -> None:
        name = self._config.checkpoint.best
        if name is None:
            return
        (result,) = (result for result in evaluation.results if result.name == name)
        value = result.measured.value
        is_better = math.isfinite(value) and (
            self._best is None or (value < self._best if result.better == "lower" else value > self._best)
        )
        if is_better:
            self._best = value
            path = checkpoint.best_of(self._directory.checkpoints)
            checkpoint.save(path, self._tensors(), self._about() | {"best": {"metric": name, "value": value}})
            self._notify_file(path)

    def _draw_picture(self) -> None:
        samples, step = self._sampler.for_picture(), self._gan.progress.step
        image = picture(samples, self._sampler.real_points) if is_picture(samples) else None
        path = self._directory.samples / f"step-{step:08d}.{'png' if image else 'npy'}"
        with self._deferred():
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                if image:
                    image.save(file, "PNG")
                else:
                    np.save(file, samples.numpy(), allow_pickle=False)
            if image:
                self.notifier.image(step, "samples", image)
            self._notify_file(path)

    def _save(self) -> None:
        folder, step = self._directory.checkpoints, self._gan.progress.step
        with writing(self._directory.metrics):
            if self._directory.metrics.exists():
                flush(self._directory.metrics)  # the log on the disk must never lag behind the checkpoint
        path = checkpoint.path_of(folder, step)
        checkpoint.save(path, self._tensors(), self._about())
        self._saved, self._saved_with_pending = step, bool(self._pending)
        checkpoint.prune(folder, self._config.checkpoint.keep, step)
        self._notify_file(path)

    def _notify_file(self, path: Path) -> None:
        self.notifier.file(self._gan.progress.step, path)

    def _tensors(self) -> dict[str, Tensor]:
        """Return the state to save. Raises NonFiniteError when it is not fit to be the newest checkpoint."""
        self._gan.finite_check.raise_if_found()  # on CUDA, what an update of this step found is read only here
        tensors = self._gan.state.tensors()
        unfit = self._gan.state.not_finite(tensors)
        if unfit:
            raise NonFiniteError(self._gan.progress.step, f"{unfit[0]} is not finite, so no checkpoint was written")
        return tensors

    def _about(self) -> dict[str, object]:
        penalties = self._earlier_penalties | {label: float(value) for label, value in self._penalties.items()}
        state = RecorderState(
            lines=self._lines, pending=self._pending, best=self._best, low=self._low, penalties=penalties
        )
        return {
            "config": self._config_data,
            "shape": list(self._gan.feed.shape),
            "num_classes": self._gan.num_classes,
            "progress": self._gan.state.place(),
            "data": self._gan.feed.fingerprint,
            "recorded": state.model_dump(),
            "made_with": self._made_with,
        }
