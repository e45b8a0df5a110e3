"""Recording: a run's log, evaluations, pictures and checkpoints, written and told while its steps go by."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
from torch import Tensor

from gancore import checkpoint
from gancore.audience import Audience
from gancore.catalog import Catalog
from gancore.config import Run
from gancore.errors import ConfigError, NonFiniteError, NumericsError
from gancore.evaluation import Evaluation, Evaluator
from gancore.gan import GAN
from gancore.guard import COUNT, Guard
from gancore.jsonsafe import json_safe
from gancore.observers import JSONL, RunInfo
from gancore.pictures import REAL_POINTS, is_picture, picture
from gancore.randomness import derive_seed
from gancore.rollback import persistent
from gancore.rundir import RunDirectory, describe, writing
from gancore.sampling import draw
from gancore.sources import Source
from gancore.training import Step

Metrics = dict[str, float]


@dataclass(frozen=True)
class Record:
    """A step, and what was written down after it: a line of the log, an evaluation, warnings, or none of these."""

    step: Step
    metrics: Metrics | None = None
    evaluation: Evaluation | None = None
    warnings: tuple[str, ...] = ()


def record(
    steps: Iterator[Step],
    gan: GAN,
    run: Run,
    directory: RunDirectory,
    catalog: Catalog,
    evaluator: Evaluator | None = None,
) -> Generator[Record, None, None]:
    """Writes log, evaluations, samples and checkpoints while the steps go by, and hands each step on.

    Whatever was due or not, the last step leaves all of them. What is done here changes nothing in the run. `evaluator`
    must be prepared, and is needed if the run has metrics. The run's observers are told of all that is written; close
    the iterator to tell them of the end before the last step.
    Raises StorageError when something cannot be written, NumericsError when the run is to stop at a collapse, and
    NonFiniteError, which is one too, when numbers are not finite and `training.on_nonfinite` does not say to go on.
    """
    if run.metrics and evaluator is None:
        raise ConfigError("the run has metrics, and nothing was given that measures them", "give an evaluator")
    recorder = _Recorder(gan, run, directory, catalog, evaluator)
    with recorder.audience.present():
        recorder.draw()
        recorder.save()
        recorder.evaluate(guarded=False)  # so that what cannot be measured is told before the first step
        yield from persistent(
            steps,
            gan,
            lambda steps, warnings: _recorded(steps, run, recorder, warnings),
            directory.checkpoints,
            directory.metrics,
        )


def _recorded(
    steps: Iterator[Step], run: Run, recorder: _Recorder, warnings: tuple[str, ...]
) -> Generator[Record, None, None]:
    recorder.begin()
    for step in steps:
        last = step.done >= 1
        metrics = recorder.log(step) if last or step.step % run.log.every_steps == 0 else None
        evaluation, warning = None, None
        with recorder.beside():
            if recorder.drawing.is_due() or last:
                recorder.draw()
            if step.step % run.checkpoint.every_steps == 0 or last:
                recorder.save()
            if (due := recorder.evaluating.is_due()) or last:
                evaluation, warning = recorder.evaluate(guarded=due)
        if warning is not None and run.evaluate.on_collapse == "stop":
            recorder.draw()
            recorder.save()
            raise NumericsError(
                f"stopped at step {step.step}: {warning}",
                "try a lower learning rate for the discriminator; --set evaluate.on_collapse=warn trains on",
            )
        if last:
            recorder.audience.end("finished")
        said = (*warnings, *filter(None, (step.skipped, warning)), *recorder.audience.warnings())
        warnings = ()
        yield Record(step, metrics, evaluation, said)


class _Every:
    """Something that is due whenever so many more images have been seen."""

    def __init__(self, gan: GAN, kimg: float) -> None:
        self._gan, self._kimg = gan, kimg
        self.done()

    def _intervals(self) -> int:
        return int(self._gan.progress.images_seen / (1000 * self._kimg))

    def is_due(self) -> bool:
        return self._intervals() > self._done

    def done(self) -> None:
        self._done = self._intervals()


class _Recorder:
    def __init__(
        self, gan: GAN, run: Run, directory: RunDirectory, catalog: Catalog, evaluator: Evaluator | None
    ) -> None:
        self._gan, self._run, self._directory, self._evaluator = gan, run, directory, evaluator
        self._config = run.to_data(catalog)
        self._manifest = describe(run, catalog, gan.device)
        self._log = JSONL().build(RunInfo(directory.path, self._config))
        # The log is there already. Unlike what others write, it is part of the run: without it the run ends.
        named = {label: observer for label, observer in run.observers.items() if not isinstance(observer, JSONL)}
        self.audience = Audience(named, directory.path, self._config, catalog)
        self._best: float | None = None
        self.drawing = _Every(gan, run.sample.every_kimg)
        self.evaluating = _Every(gan, run.evaluate.every_kimg)
        self.begin()

    def begin(self) -> None:
        """From here on the steps go by, at the beginning and whenever the run went back."""
        self._logged = (self._gan.progress.seconds, self._gan.progress.images_seen)
        self._aside = 0.0
        self.drawing.done()
        self.evaluating.done()

    @cached_property
    def _guard(self) -> Guard | None:
        if self._run.evaluate.on_collapse == "ignore":
            return None
        return Guard(self._training.draw(COUNT, self._run.seed, "guard"))

    @cached_property
    def _real_points(self) -> Tensor | None:
        if self._gan.feed.shape != (2,):
            return None
        return self._training.draw(REAL_POINTS, self._run.seed, "points")

    def log(self, step: Step) -> Metrics:
        metrics = step.scalars()
        seconds, images = self._logged
        elapsed = max(step.seconds - seconds - self._aside, 1e-9)
        metrics["images_per_second"] = round((step.images_seen - images) / elapsed, 1)
        self._logged, self._aside = (step.seconds, step.images_seen), 0.0
        with self.beside():
            self._write(metrics)
        return metrics

    @contextmanager
    def beside(self) -> Iterator[None]:
        """What is done in this block is not training, and does not count for its speed."""
        begun = perf_counter()
        yield
        self._aside += perf_counter() - begun

    def _write(self, metrics: Metrics) -> None:
        with writing(self._directory.metrics):
            self._log.scalars(metrics)
        self.audience.scalars(metrics)

    def _wrote(self, path: Path) -> None:
        self.audience.file(self._gan.progress.step, path)

    def _samples(self, count: int, seed: int, labels: Tensor | None = None) -> Tensor:
        gan, run = self._gan, self._run
        gan.watch.read()  # what went wrong first is told, not what comes of it
        try:
            return draw(
                gan.sampler(),
                count,
                latent=run.latent,
                seed=seed,
                device=gan.device,
                num_classes=gan.num_classes,
                labels=labels,
            )
        except NumericsError as error:
            raise NonFiniteError(gan.progress.step, error.message) from error

    @cached_property
    def _training(self) -> Source:
        return Source(self._run.dataset.name, self._gan.feed.dataset, self._run.dataset)

    @cached_property
    def _count(self) -> int:
        """Samples that an evaluation takes."""
        return max(COUNT if self._guard else 0, self._evaluator.count if self._evaluator else 0)

    @cached_property
    def _labels(self) -> Tensor | None:
        """The classes of those samples, as frequent as in the data; None in a run that is not conditional."""
        if self._gan.num_classes is None:
            return None
        return self._training.draw_labels(self._count, self._run.seed, "evaluation")

    def evaluate(self, *, guarded: bool) -> tuple[Evaluation | None, str | None]:
        """What metrics and guard have to say of the samples; the guard looks at whole intervals only."""
        self.evaluating.done()
        guard = self._guard if guarded else None
        evaluator = self._evaluator
        if evaluator is None and guard is None:
            return None, None
        samples = self._samples(self._count, self._run.seed, self._labels)  # as `gancore evaluate` would draw them
        now = self._gan.progress
        numbers: Metrics = {"step": now.step, "kimg": now.images_seen / 1000, "seconds": round(now.seconds, 3)}
        evaluation, warning = None, None
        if guard:
            diversity = guard.diversity(samples)
            warning = guard.alarm(diversity)
            numbers["diversity"] = math.nan if diversity is None else diversity
        if evaluator:
            evaluation = evaluator.evaluate(samples[: evaluator.count])
            numbers |= evaluation.numbers()
            self._keep_best(evaluation)
            self._tell(evaluation)
        self._write(numbers)
        return evaluation, warning

    def _tell(self, evaluation: Evaluation) -> None:
        """The newest evaluation with all that the numbers in the log leave out."""
        document = json_safe({"step": self._gan.progress.step, **evaluation.to_data()})
        with writing(self._directory.evaluation):
            self._directory.evaluation.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
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

    def draw(self) -> None:
        self.drawing.done()
        samples = self._samples(self._run.sample.count, derive_seed(self._run.seed, "samples"))
        step = self._gan.progress.step
        shown = picture(samples, self._real_points) if is_picture(samples) else None
        path = self._directory.samples / f"step-{step:08d}.{'png' if shown else 'npy'}"
        with writing(path):
            if shown:
                shown.save(path)
            else:
                np.save(path, samples.numpy(), allow_pickle=False)
        if shown:
            self.audience.image(step, "samples", shown)
        self._wrote(path)

    def save(self) -> None:
        folder = self._directory.checkpoints
        path = checkpoint.path_of(folder, self._gan.progress.step)
        checkpoint.save(path, self._state(), self._about())
        checkpoint.prune(folder, self._run.checkpoint.keep)
        self._wrote(path)

    def _state(self) -> dict[str, Tensor]:
        """What is saved. Raises NonFiniteError when it is not fit to be the newest checkpoint."""
        tensors = self._gan.tensors()
        unfit = self._gan.unfit(tensors)
        if unfit:
            raise NonFiniteError(self._gan.progress.step, f"{unfit[0]} is not finite, so no checkpoint was written")
        return tensors

    def _about(self) -> dict[str, object]:
        return {
            "config": self._config,
            "shape": list(self._gan.feed.shape),
            "num_classes": self._gan.num_classes,
            "progress": self._gan.place(),
            "made_with": self._manifest,
        }
