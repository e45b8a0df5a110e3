"""A run's folder as it fills: log, pictures, evaluations and checkpoints, each of them when it is due."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
from torch import Tensor

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.config.run import RunConfig
from gancore.errors import NonFiniteError, NumericsError
from gancore.evaluation.collapse import SAMPLE_COUNT, CollapseGuard
from gancore.evaluation.evaluator import Evaluation, Evaluator
from gancore.evaluation.sources import ReferenceImages
from gancore.observers import JSONL, RunInfo
from gancore.run.directory import RunDirectory, describe
from gancore.run.interrupt import Interruption
from gancore.run.lockstep import Coordinator
from gancore.run.log import PendingTask, Recorded
from gancore.run.notify import Notifier
from gancore.sampling.grid import REAL_POINTS, is_picture, picture
from gancore.training.gan import GAN
from gancore.training.loop import Step
from gancore.training.progress import Every
from gancore.utils.atomic import atomic_write, flush, writing
from gancore.utils.json import json_safe
from gancore.utils.random import derive_seed

Metrics = dict[str, float]


class Recorder:
    """Writes down a run. `since` is what was written down when its state was saved; None for a new run."""

    def __init__(
        self,
        gan: GAN,
        run: RunConfig,
        directory: RunDirectory,
        catalog: Catalog,
        evaluator: Evaluator | None,
        since: Recorded | None,
        interruption: Interruption,
        lead: Coordinator,
    ) -> None:
        self._gan, self._run, self._directory, self._evaluator, self.lead = gan, run, directory, evaluator, lead
        self.held, self.check = interruption.held, interruption.check
        self._config = run.to_data(catalog)
        self._manifest = describe(run, catalog, gan.device, gan.ranks.size)
        begun = gan.progress.step
        self._log = JSONL().build(RunInfo(directory.path, self._config, begun))
        # The log is there already. Unlike what others write, it is part of the run: without it the run ends.
        named = {label: observer for label, observer in run.observers.items() if not isinstance(observer, JSONL)}
        self.audience = Notifier(named, RunInfo(directory.path, self._config, begun), catalog)
        self._warnings: list[str] = []
        self._new = since is None
        self._go_on(since or Recorded(owed=["picture", "look"]))

    def _go_on(self, since: Recorded) -> None:
        progress = self._gan.progress
        self._owed: list[PendingTask] = list(since.owed)
        self._lines, self._best, self._low = since.lines, since.best, since.low
        self._saved = None if self._new else progress.step
        self._saved_owing = bool(self._owed)
        self._due = self._last = False
        self._logged, self._aside = (progress.seconds, progress.images_seen), 0.0
        self._drawing = Every(progress, self._run.sample.every_kimg)
        self._evaluating = Every(progress, self._run.evaluate.every_kimg)
        self.__dict__.pop("_guard", None)  # it counts from another number now

    def rewind(self, since: Recorded, warning: str) -> None:
        """The run went back to a state, of which this was written down, and goes on from there."""
        self._new = False
        self._warnings.append(warning)
        self._go_on(since)

    def begin(self) -> None:
        """Before the first step of a new run, or whatever is owed of one that goes on."""
        self._last = self._gan.done() >= 1
        # A save before the rest, so that what cannot be saved or measured is told before the first step.
        self._settle(save=self._new)

    def take(self, step: Step) -> Metrics | None:
        """Notes what is due after a step; returns the line of the log, if it is time for one."""
        last = step.done >= 1
        self._lines, self._owed = 0, []
        self._warnings += [each for each in (step.skipped, step.note) if each]
        if self._drawing.is_due() or last:
            self._owed.append("picture")
        due = self._evaluating.is_due()
        if due and self._run.evaluate.on_collapse != "ignore":
            self._owed.append("guarded look")
        elif self._evaluator and (due or last):
            self._owed.append("look")
        self._due, self._last = step.step % self._run.checkpoint.every_steps == 0 or last, last
        return self._line(step) if last or step.step % self._run.log.every_steps == 0 else None

    def settle(self) -> Evaluation | None:
        """Does what is due after the step that was taken."""
        with self._beside():
            return self._settle(save=self._due)

    def save_once(self) -> None:
        """Saves the state of the last step, unless that is done."""
        if self._saved != self._gan.progress.step:
            self._save()

    def warnings(self) -> tuple[str, ...]:
        """What there is to say since this was last asked."""
        said = (*self._warnings, *self.audience.warnings())
        self._warnings.clear()
        return said

    def _settle(self, *, save: bool) -> Evaluation | None:
        if "picture" in self._owed:
            self._draw()
            self._owed.remove("picture")
        if save:
            with self.held():
                self._save()
        evaluation, alarm = None, None
        for debt in tuple(self._owed):
            evaluation, alarm = self._look(guarded=debt == "guarded look")
        if alarm and self._run.evaluate.on_collapse == "stop":
            self._draw()
            self._save()
            raise NumericsError(
                f"stopped at step {self._gan.progress.step}: {alarm}",
                "try a lower learning rate for the discriminator; --set evaluate.on_collapse=warn trains on",
            )
        self._warnings += [alarm] if alarm else []
        if self._last and self._saved_owing:
            with self.held():
                self._save()  # so that nothing is owed of a finished run
        return evaluation

    def _line(self, step: Step) -> Metrics:
        metrics = step.scalars()
        seconds, images = self._logged
        elapsed = max(step.seconds - seconds - self._aside, 1e-9)
        metrics["images_per_second"] = round((step.images_seen - images) / elapsed, 1)
        self._logged, self._aside = (step.seconds, step.images_seen), 0.0
        with self._beside():
            self._write(metrics)
        return metrics

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """What is done in this block is not training, and does not count for its speed."""
        begun = perf_counter()
        yield
        self._aside += perf_counter() - begun

    def _write(self, metrics: Metrics) -> None:
        with writing(self._directory.metrics):
            self._log.scalars(metrics)
        self._lines += 1
        self.audience.scalars(metrics)

    def _wrote(self, path: Path) -> None:
        self.audience.file(self._gan.progress.step, path)

    def _samples(self, count: int, seed: int, labels: Tensor | None = None) -> Tensor:
        gan = self._gan
        gan.finite_check.raise_if_found()  # what went wrong first is told, not what comes of it
        try:
            with self.held() if gan.ranks.is_distributed else nullcontext():
                return self.lead.samples(gan, count, seed, labels)
        except NumericsError as error:
            raise NonFiniteError(gan.progress.step, error.message) from error

    @cached_property
    def _guard(self) -> CollapseGuard | None:
        if self._run.evaluate.on_collapse == "ignore":
            return None
        return CollapseGuard(self._training.draw(SAMPLE_COUNT, self._run.seed, "guard"), self._low)

    @cached_property
    def _real_points(self) -> Tensor | None:
        if self._gan.feed.shape != (2,):
            return None
        return self._training.draw(REAL_POINTS, self._run.seed, "points")

    @cached_property
    def _training(self) -> ReferenceImages:
        return ReferenceImages(self._run.dataset.name, self._gan.feed.dataset, self._run.dataset)

    @cached_property
    def _count(self) -> int:
        """Samples that an evaluation takes."""
        return max(SAMPLE_COUNT if self._guard else 0, self._evaluator.count if self._evaluator else 0)

    @cached_property
    def _labels(self) -> Tensor | None:
        """The classes of those samples, as frequent as in the data; None in a run that is not conditional."""
        if self._gan.num_classes is None:
            return None
        return self._training.draw_labels(self._count, self._run.seed, "evaluation")

    def _look(self, *, guarded: bool) -> tuple[Evaluation | None, str | None]:
        """What metrics and guard have to say of the samples; the guard looks at whole intervals only."""
        guard = self._guard if guarded else None
        evaluator, evaluation, alarm = self._evaluator, None, None
        if evaluator is None and guard is None:
            self._owed = []
            return None, None
        samples = self._samples(self._count, self._run.seed, self._labels)  # as `gancore evaluate` would draw them
        now = self._gan.progress
        numbers: Metrics = {"step": now.step, "kimg": now.images_seen / 1000, "seconds": round(now.seconds, 3)}
        diversity = guard.diversity(samples) if guard else None
        if evaluator:
            evaluation = evaluator.evaluate(samples[: evaluator.count])
        with self.held():
            self._owed = []
            if guard:
                alarm = guard.alarm(diversity)
                numbers["diversity"] = math.nan if diversity is None else diversity
            if evaluation:
                numbers |= evaluation.numbers()
                self._keep_best(evaluation)
                self._tell(evaluation)
            self._write(numbers)
        return evaluation, alarm

    def _tell(self, evaluation: Evaluation) -> None:
        """The newest evaluation with all that the numbers in the log leave out."""
        document = json_safe({"step": self._gan.progress.step, **evaluation.to_data()})
        with atomic_write(self._directory.evaluation) as path:
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        self._wrote(self._directory.evaluation)

    def _keep_best(self, evaluation: Evaluation) -> None:
        name = self._run.checkpoint.best
        if name is None:
            return
        (result,) = (result for result in evaluation.results if result.name == name)
        value = result.measured.value
        better = math.isfinite(value) and (
            self._best is None or (value < self._best if result.better == "lower" else value > self._best)
        )
        if better:
            self._best = value
            path = checkpoint.best_of(self._directory.checkpoints)
            about = self._about() | {"best": {"metric": name, "value": value}}
            checkpoint.save(path, self._state(), about)
            self._wrote(path)

    def _draw(self) -> None:
        samples = self._samples(self._run.sample.count, derive_seed(self._run.seed, "samples"))
        step = self._gan.progress.step
        shown = picture(samples, self._real_points) if is_picture(samples) else None
        path = self._directory.samples / f"step-{step:08d}.{'png' if shown else 'npy'}"
        with self.held():
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                if shown:
                    shown.save(file, "PNG")
                else:
                    np.save(file, samples.numpy(), allow_pickle=False)
            if shown:
                self.audience.image(step, "samples", shown)
            self._wrote(path)

    def _save(self) -> None:
        folder, step = self._directory.checkpoints, self._gan.progress.step
        with writing(self._directory.metrics):
            if self._directory.metrics.exists():
                flush(self._directory.metrics)  # the log knows no less than the state
        path = checkpoint.path_of(folder, step)
        checkpoint.save(path, self._state(), self._about())
        self._saved, self._saved_owing = step, bool(self._owed)
        checkpoint.prune(folder, self._run.checkpoint.keep, step)
        self._wrote(path)

    def _state(self) -> dict[str, Tensor]:
        """What is saved. Raises NonFiniteError when it is not fit to be the newest checkpoint."""
        tensors = self._gan.state.tensors()
        unfit = self._gan.state.not_finite(tensors)
        if unfit:
            raise NonFiniteError(self._gan.progress.step, f"{unfit[0]} is not finite, so no checkpoint was written")
        return tensors

    def _about(self) -> dict[str, object]:
        low = self._guard.low if self._guard else 0
        recorded = Recorded(lines=self._lines, owed=self._owed, best=self._best, low=low)
        return {
            "config": self._config,
            "shape": list(self._gan.feed.shape),
            "num_classes": self._gan.num_classes,
            "progress": self._gan.state.place(),
            "data": self._gan.feed.fingerprint,
            "recorded": recorded.model_dump(),
            "made_with": self._manifest,
        }
