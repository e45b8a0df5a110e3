"""Works on one trial of a study: trains its run to the budget, measures it, and stores the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gancore.checkpoint import store as checkpoint
from gancore.config.layers import flattened, nested
from gancore.errors import DataError, GancoreError, InUseError, NumericsError, StorageError, describe_error
from gancore.run.directory import RunDirectory
from gancore.run.interrupt import Interruption
from gancore.study.arms import OFF, Sources, make_run
from gancore.study.definition import StudyConfig
from gancore.study.measure import Measure, real_data_of
from gancore.study.trials import LOCK, Trials, job_of, pruner_of, sampler_of, suggest, using_storage
from gancore.utils.json import json_safe
from gancore.utils.lock import lock_file
from gancore.utils.text import duration, short_number
from gancore.utils.threads import computing_with

if TYPE_CHECKING:
    import optuna

RUNS = "runs"
"""The folder of the runs of a study."""


@dataclass(frozen=True)
class Ended:
    """How a trial has ended: with the numbers of its metrics, or with the reason why it has none.

    `is_error` says that the reason is an error which another try may not have, unlike numbers that are not finite.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    real_data: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    is_error: bool = False
    is_pruned: bool = False
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """What is trained until a check, or to the end: the run in a folder until this share of its budget is done."""

    percent: int
    folder: Path
    budget: str | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Worker:
    """What a worker needs for any trial: the study, its folder, real images, plugins and a device."""

    study: StudyConfig
    folder: Path
    measure: Measure
    sources: Sources
    interruption: Interruption

    def finish(self, trials: Trials, trial: optuna.Trial, *, searches: bool) -> str:
        """Train a claimed trial to its end, or to a check where it waits, and store the result; return a line about it.

        An error of the run is its result. Raises StorageError, InUseError and DataError for data that cannot be read,
        after which the trial can be claimed again, and what an interruption raises.
        """
        parts = self._parts(job_of(trial).name, searches=searches)
        folders = list(dict.fromkeys(part.folder for part in parts))
        try:
            keys = self._choose(trials, trial) if searches else job_of(trial).keys
            step = sum(max(0, _newest_step(folder)) for folder in folders)
            ended: Ended | None
            if trials.keeps_dying(trial, step):
                ended = Ended(failure=f"its process died several times after step {step:,}", is_error=True)
            else:
                ended = self._ended(trials, trial, keys, parts, searches=searches)
        except (StorageError, InUseError, DataError, KeyboardInterrupt):
            with suppress(StorageError):
                trials.forget_starts(trial)  # this process ends in order
            raise
        if ended is None:
            trials.forget_starts(trial)
            return f"{job_of(trial).name}: waits for the other runs at a check"
        return self._store(trials, trial, keys, ended, _progress(folders))

    def _parts(self, name: str, *, searches: bool) -> list[Part]:
        """Return what is trained, one after the other."""
        folder = self.folder / RUNS / name
        checks = self.study.checks if searches and self.study.pruner else ()
        if self.study.shortened:
            short = [Part(each, folder.with_name(f"{name}-at-{each}"), self.study.budget_at(each)) for each in checks]
            return [*short, Part(100, folder)]
        return [*(Part(each, folder, share=each / 100) for each in checks), Part(100, folder)]

    def _ended(
        self, trials: Trials, trial: optuna.Trial, keys: Mapping[str, Any], parts: Sequence[Part], *, searches: bool
    ) -> Ended | None:
        """Train and measure a run; an error of the run is its result. None for a run that waits for others."""
        try:
            return self._train_and_measure(trials, trial, keys, parts, searches=searches)
        except (StorageError, InUseError):
            raise
        except Exception as error:  # code of plugins can raise anything, and breaks only its own run
            self.interruption.check()  # which it may have turned into an error
            if isinstance(error, DataError):
                self.measure.check_data()
            is_finite = not isinstance(error, NumericsError)
            text = str(error) if isinstance(error, GancoreError) else describe_error(error)
            return Ended(failure=text if is_finite else f"not finite: {text}", is_error=is_finite)

    def _train_and_measure(
        self, trials: Trials, trial: optuna.Trial, keys: Mapping[str, Any], parts: Sequence[Part], *, searches: bool
    ) -> Ended | None:
        folder = parts[-1].folder
        trained, reported, warnings = trials.progress(trial)
        damaged = {part.folder for part in parts if not _is_intact(part.folder)}
        if any(part.folder in damaged and part.percent <= trained for part in parts):
            trained, reported, warnings = 0, frozenset(), []
        factor = self.study.halving
        for part in parts:
            if part.percent > trained:
                warnings = self._train(keys, job_of(trial).seed, part)
                trials.note_trained(trial, part.percent, warnings)
            if part.percent == 100:
                break
            if part.percent in reported:
                is_pruned = factor is not None and not trials.survives(trial, part.percent, factor)
            else:
                is_pruned = self._is_pruned(trial, part)
                if factor is not None:  # it is decided when all have reached the check
                    return None
            if is_pruned:
                return Ended(failure=f"ended after {part.percent} % of the budget", is_pruned=True, warnings=warnings)
        with computing_with(self.study.threads):
            evaluation = self.measure.evaluate(folder, selects=searches)
        if not searches:
            with RunDirectory(folder).locked():
                RunDirectory(folder).write_evaluation(_newest_step(folder), evaluation)
        return Ended(evaluation.numbers(), real_data_of(evaluation), warnings=warnings)

    def _choose(self, trials: Trials, trial: optuna.Trial) -> dict[str, Any]:  # Any: data of a file
        """Return config keys that the sampler suggests; for a trial that is taken up, those of its start."""
        trials.study.sampler = sampler_of(self.study.sampler, trial.number)
        trials.study.pruner = pruner_of(self.study.pruner)
        with using_storage(), lock_file(self.folder / LOCK):  # else two workers at once could choose the same setting
            return nested({key: suggest(trial, key, each) for key, each in self.study.distributions()})

    def _train(self, keys: Mapping[str, Any], seed: int, part: Part) -> list[str]:
        """Train a run until the end of a part, from its newest checkpoint if there is one. Return its warnings."""
        run = make_run(self.study, keys, seed, self.sources, part.folder, budget=part.budget)
        with closing(run.train(resume=True, interruption=self.interruption)) as records:
            for record in records:
                if record.step.done >= part.share:
                    break
        return [text for text in run.warnings if not text.startswith(tuple(f"{key} " for key in OFF))]

    def _is_pruned(self, trial: optuna.Trial, part: Part) -> bool:
        """Report the metric so far, and return whether the pruner ends the run."""
        with computing_with(self.study.threads):
            value = self.measure.evaluate(part.folder, selects=True).numbers()[self.study.metric]
        with using_storage():
            trial.report(value, part.percent)
            return bool(trial.should_prune())

    def _store(
        self,
        trials: Trials,
        trial: optuna.Trial,
        keys: Mapping[str, Any],
        ended: Ended,
        progress: Mapping[str, float],
    ) -> str:
        name = job_of(trial).name
        value, failure = ended.numbers.get(self.study.metric), ended.failure
        if value is not None and value != value:
            value, failure = None, f"{self.study.metric} is not a number"
        result = {
            "keys": flattened(keys) if keys else {},
            "numbers": json_safe(dict(ended.numbers)),
            "real_data": json_safe(dict(ended.real_data)),
            "failure": failure,
            "is_error": ended.is_error,
            "warnings": list(ended.warnings),
            **progress,
        }
        trials.tell(trial, value, result, pruned=ended.is_pruned)
        text = failure or f"{self.study.metric} {short_number(value)}"
        return f"{name}: {text} ({duration(progress['seconds'])})"


def _newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint of a run, -1 without one."""
    kept = checkpoint.kept(RunDirectory(folder).checkpoints)
    return checkpoint.step_of(kept[-1]) if kept else -1


def _is_intact(folder: Path) -> bool:
    """Return whether a run has a valid checkpoint. One that has only damaged ones is set aside, to begin again."""
    directory = RunDirectory(folder)
    if checkpoint.newest_valid(directory.checkpoints).checkpoint is not None:
        return True
    if checkpoint.kept(directory.checkpoints):
        with using_storage():
            free = next(
                path
                for number in count(1)
                if not (path := folder.with_name(f"{folder.name}.damaged-{number}")).exists()
            )
            folder.rename(free)
    return False


def _progress(folders: Sequence[Path]) -> dict[str, float]:
    """Return the step of the last run that has a valid checkpoint, and kimg and seconds of all of them."""
    found = [checkpoint.newest_valid(RunDirectory(folder).checkpoints).checkpoint for folder in folders]
    progress = [each.about["progress"] for each in found if each]
    return {
        "step": int(progress[-1].get("step", 0)) if progress else 0,
        "kimg": sum(each.get("images_seen", 0) for each in progress) / 1000,
        "seconds": round(sum(float(each.get("seconds", 0.0)) for each in progress), 3),
    }
