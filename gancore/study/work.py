"""Works on one trial of a study: trains its run to the budget, measures it, and stores the result."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gancore.checkpoint import store as checkpoint
from gancore.config.layers import flattened, nested
from gancore.errors import GancoreError, InUseError, NumericsError, StorageError, describe_error
from gancore.run.directory import RunDirectory
from gancore.run.interrupt import Interruption
from gancore.study.arms import Sources, make_run
from gancore.study.definition import Distribution, StudyConfig
from gancore.study.measure import Measure, real_data_of
from gancore.study.trials import Trials, job_of, pruner_of, sampler_of, using_storage
from gancore.utils.json import json_safe
from gancore.utils.text import duration, short_number
from gancore.utils.threads import computing_with

if TYPE_CHECKING:
    import optuna

RUNS = "runs"
"""The folder of the runs of a study."""
_TRAINED = "trained"
"""The percentage of the budget to which a trial is trained."""


@dataclass(frozen=True)
class Worker:
    """What a worker needs for any trial: the study, its folder, real images, plugins and a device."""

    study: StudyConfig
    folder: Path
    measure: Measure
    sources: Sources
    interruption: Interruption

    def finish(self, trials: Trials, trial: optuna.Trial, *, searches: bool) -> str:
        """Train a claimed trial to its end and store the result; return a line about it.

        An error of the run is its result. Raises StorageError and InUseError, after which the trial can be claimed
        again, and what an interruption raises.
        """
        job = job_of(trial)
        folder = self.folder / RUNS / job.name
        keys = self._choose(trials, trial) if searches else job.keys
        if trials.keeps_dying(trial, _newest_step(folder)):
            text = f"its process died several times after step {_newest_step(folder):,}"
            return self._tell(trials, trial, folder, keys, failure=text)
        with using_storage():
            trained = trial.user_attrs.get(_TRAINED, 0)
        try:
            for percent in (*(self.study.checks if searches and self.study.pruner else ()), 100):
                if percent > trained:
                    self._train(keys, job.seed, folder, percent / 100)
                    with using_storage():
                        trial.set_user_attr(_TRAINED, percent)
                if percent < 100 and self._is_pruned(trial, folder, percent):
                    return self._tell(trials, trial, folder, keys, pruned=f"ended after {percent} % of the budget")
            with computing_with(self.study.threads):
                evaluation = self.measure.evaluate(folder, selects=searches)
        except (StorageError, InUseError):
            raise
        except NumericsError as error:
            return self._tell(trials, trial, folder, keys, failure=f"not finite: {error}")
        except GancoreError as error:
            return self._tell(trials, trial, folder, keys, failure=str(error))
        except Exception as error:  # code of plugins can raise anything, and breaks only its own run
            return self._tell(trials, trial, folder, keys, failure=describe_error(error))
        except KeyboardInterrupt:
            trials.forget_starts(trial)  # this process ends in order
            raise
        real_data = real_data_of(evaluation)
        return self._tell(trials, trial, folder, keys, numbers=evaluation.numbers(), real_data=real_data)

    def _choose(self, trials: Trials, trial: optuna.Trial) -> dict[str, Any]:  # Any: data of a file
        """Return config keys that the sampler suggests; for a trial that is taken up, those of its start."""
        trials.study.sampler = sampler_of(self.study.sampler, trial.number)
        trials.study.pruner = pruner_of(self.study.pruner)
        with using_storage():
            return nested({key: _suggest(trial, key, each) for key, each in self.study.distributions()})

    def _train(self, keys: Mapping[str, Any], seed: int, folder: Path, share: float) -> None:
        """Train a run until this share of the budget is done, from its newest checkpoint if there is one."""
        run = make_run(self.study, keys, seed, self.sources, folder)
        with closing(run.train(resume=True, interruption=self.interruption)) as records:
            for record in records:
                if record.step.done >= share:
                    break

    def _is_pruned(self, trial: optuna.Trial, folder: Path, percent: int) -> bool:
        """Report the metric so far, and return whether the pruner ends the run."""
        with computing_with(self.study.threads):
            value = self.measure.evaluate(folder, selects=True).numbers()[self.study.metric]
        with using_storage():
            trial.report(value, percent)
            return bool(trial.should_prune())

    def _tell(
        self,
        trials: Trials,
        trial: optuna.Trial,
        folder: Path,
        keys: Mapping[str, Any],
        *,
        numbers: Mapping[str, float] | None = None,
        real_data: Mapping[str, float] | None = None,
        failure: str = "",
        pruned: str = "",
    ) -> str:
        value = None if numbers is None else numbers.get(self.study.metric)
        if value is not None and value != value:
            value, failure = None, f"{self.study.metric} is not a number"
        progress = _progress(folder)
        result = {
            "keys": flattened(keys) if keys else {},
            "numbers": json_safe(dict(numbers or {})),
            "real_data": json_safe(dict(real_data or {})),
            "failure": failure or pruned,
            **progress,
        }
        trials.tell(trial, value, result, pruned=bool(pruned))
        seconds = duration(progress["seconds"])
        text = failure or pruned or f"{self.study.metric} {short_number(value)}"
        return f"{job_of(trial).name}: {text} ({seconds})"


def _suggest(trial: optuna.Trial, key: str, distribution: Distribution) -> object:
    if distribution.choice:
        return trial.suggest_categorical(key, distribution.choice)
    if distribution.integers:
        return trial.suggest_int(key, *distribution.integers)
    low, high = distribution.log or distribution.range or (0.0, 1.0)
    return trial.suggest_float(key, low, high, log=distribution.log is not None)


def _newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint of a run, -1 without one."""
    kept = checkpoint.kept(RunDirectory(folder).checkpoints)
    return int(kept[-1].stem.partition("-")[2]) if kept else -1


def _progress(folder: Path) -> dict[str, float]:
    """Return steps, kimg and seconds of a run from its newest valid checkpoint; zeros without one."""
    found = checkpoint.newest_valid(RunDirectory(folder).checkpoints).checkpoint
    progress = found.about["progress"] if found else {}
    return {
        "step": int(progress.get("step", 0)),
        "kimg": progress.get("images_seen", 0) / 1000,
        "seconds": round(float(progress.get("seconds", 0.0)), 3),
    }
