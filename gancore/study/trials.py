"""The trials of a study in Optuna's storage: adding them, claiming one for a worker, and what became of each.

A trial is one run. A worker holds the lock of a trial for as long as it works on it, and the kernel releases the lock
when the process ends. So a trial that is running without a lock has lost its worker, and any worker may take it up.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import Timeout

from gancore.errors import ConfigError, StorageError, unknown_name
from gancore.study.definition import HALVING, without_password
from gancore.utils.lock import lock_file

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from gancore.study.definition import Distribution, StudyConfig

_ERRORS: tuple[type[Exception], ...] = (OSError,)
"""What a storage raises when it is away or full."""
with suppress(ImportError):  # `check_installed` says so
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
    from sqlalchemy.exc import SQLAlchemyError

    _ERRORS = (OSError, json.JSONDecodeError, SQLAlchemyError, optuna.exceptions.StorageInternalError)

T = TypeVar("T")
LOCK = ".lock"
"""The file in the folder of a study whose lock is held while trials are added, and while a setting is chosen."""
JOURNAL = "journal.log"
"""The file in the folder of a study that has its state, unless it is in a database."""
BRUTE_FORCE = "BruteForceSampler"
"""The sampler that tries every setting of a space once."""
_SEQUENCE = "QMCSampler"
"""The sampler whose settings are points of one sequence, with low discrepancy."""
_LOCKS = "locks"
_TRAINED = "trained"
_WARNINGS = "warnings"
_SEEDS = 1_000_003
"""The distance between the seeds of samplers for given seeds that follow each other; more than a search has trials."""
_MOST_STARTS = 3
"""Starts of a trial at one step, after which it counts as the reason why its workers die."""
_UNFIT = {
    "GridSampler": f"{BRUTE_FORCE} tries every combination too",
    "PartialFixedSampler": "leave the fixed keys out of the space",
}
"""Samplers that cannot be used by a study, and what to do."""
_FINISHED = ("COMPLETE", "PRUNED", "FAIL")
"""Names of the states of trials that are not claimed any more."""


@dataclass(frozen=True)
class Job:
    """A run to train: its name, which is that of its folder, its arm, its seed, and the config keys of the arm.

    The keys of a run of a search are chosen when it starts.
    """

    name: str
    arm: str
    seed: int
    keys: Mapping[str, Any]  # Any: data of a file


def check_installed() -> None:
    """Raise ConfigError unless Optuna is installed."""
    if find_spec("optuna") is None:
        raise ConfigError("a study needs optuna, which is not installed", "pip install 'gancore[study]'")


def open_storage(config: StudyConfig, folder: Path) -> BaseStorage:
    """Return the storage of a study. Raises ConfigError when it cannot be reached."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # each finished trial would be a line otherwise
    if config.storage is None:
        folder.mkdir(parents=True, exist_ok=True)
        with using_storage():
            _cut_to_lines(folder / JOURNAL)
            return optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    try:
        return optuna.storages.get_storage(config.storage)
    except Exception as error:  # drivers of databases raise errors of their own
        raise ConfigError(
            f"the storage {without_password(config.storage)} cannot be opened: {_first_line(error)}",
            "name a database that answers, such as sqlite:///study.db, or leave storage out",
        ) from error


def _cut_to_lines(journal: Path) -> None:
    """Cut off a last line that was not written to its end, as on a full disk; Optuna would append to it."""
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        if journal.exists() and not (content := journal.read_bytes()).endswith(b"\n"):
            os.truncate(journal, content.rfind(b"\n") + 1)
    finally:
        lock.release()


@contextmanager
def using_storage() -> Iterator[None]:
    """Raise the errors of a storage in the block as StorageError, such as those of a database that is away."""
    try:
        yield
    except _ERRORS as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error  # Optuna's names no reason
        raise StorageError(
            f"the storage of the study cannot be used: {_first_line(cause)}",
            "run the same command again when it is back; runs continue from their newest checkpoints",
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class Trials:
    """The trials of one stage of a study: an Optuna study of this name, whose runs are in a folder.

    `identity` is that of the folder. `about` is what is stored of the study while it has no trials; None to open one
    that exists. Raises ConfigError when the storage has a study of this name whose runs are in another folder, or none
    and there is no `about`. All methods raise StorageError when the storage cannot be used.
    """

    @using_storage()
    def __init__(
        self, storage: BaseStorage, name: str, folder: Path, identity: str, about: Mapping[str, Any] | None
    ) -> None:
        names = [summary.study_name for summary in optuna.get_all_study_summaries(storage, include_best_trial=False)]
        if name not in names and about is None:
            raise ConfigError(f"the storage has no study {name!r}", "name the storage in which it was begun")
        if about is not None:
            lower = next(iter(about["better"].values())) == "lower"
            direction = optuna.study.StudyDirection.MINIMIZE if lower else optuna.study.StudyDirection.MAXIMIZE
            optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        self.study = optuna.load_study(storage=storage, study_name=name, sampler=optuna.samplers.RandomSampler(seed=0))
        self._locks = folder / _LOCKS
        if self.study.user_attrs.get("folder", identity) != identity:
            raise ConfigError(
                f"the storage has a study {name!r} whose runs are in another folder",
                "give the folder of this study another name, or name another storage",
            )
        if about is not None and not self.all():
            for key, value in {"folder": identity, "about": dict(about)}.items():
                self.study.set_user_attr(key, value)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # experimental, and only shown by tools of Optuna
                self.study.set_metric_names([next(iter(about["better"]))])

    @property
    @using_storage()
    def about(self) -> dict[str, Any]:  # Any: JSON
        """What was stored of the study when it began."""
        return dict(self.study.user_attrs["about"])

    @property
    @using_storage()
    def config(self) -> dict[str, Any] | None:  # Any: data of a file
        """The study as it was when runs were last added, None before."""
        found: dict[str, Any] | None = self.study.user_attrs.get("study")
        return found

    @using_storage()
    def keep_config(self, config: Mapping[str, Any]) -> None:
        """Keep the study as it is now."""
        self.study.set_user_attr("study", dict(config))

    @using_storage()
    def add(self, jobs: Sequence[Job]) -> None:
        """Add those of the jobs that are not there yet, to be claimed in this order."""
        known = {job_of(trial).name for trial in self.all()}
        for job in jobs:
            if job.name not in known:
                self.study.enqueue_trial({}, user_attrs={"job": vars(job) | {"keys": dict(job.keys)}})

    @using_storage()
    def all(self) -> list[FrozenTrial]:
        """Return the newest trial of each run, in the order in which the runs were added."""
        trials = [trial for trial in self.study.get_trials(deepcopy=False) if "job" in trial.user_attrs]
        return list({trial.user_attrs["job"]["name"]: trial for trial in trials}.values())

    @using_storage()
    def retry(self) -> None:
        """Add a trial for each run that an error has ended, with the same keys; numbers that diverged are no error.

        It keeps what was measured at the checks that the run has passed: its newest checkpoint may be of a later step.
        """
        for trial in self.all():
            if trial.state.name == "FAIL" and trial.user_attrs.get("result", {}).get("is_error"):
                kept = ("job", _TRAINED, _WARNINGS)
                again = optuna.trial.create_trial(
                    state=optuna.trial.TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={key: trial.user_attrs[key] for key in kept if key in trial.user_attrs},
                    system_attrs=trial.system_attrs,  # where pruners keep values of checks
                    intermediate_values=trial.intermediate_values,
                )
                self.study.add_trial(again)

    @property
    def finished(self) -> bool:
        """Whether there are trials, and all of them are finished."""
        trials = self.all()
        return bool(trials) and all(trial.state.name in _FINISHED for trial in trials)

    @contextmanager
    def claim(self, *, in_rounds: bool = False) -> Iterator[optuna.Trial | None]:
        """Claim a trial for the block: one whose worker is gone, else the next; None without one.

        `in_rounds` leaves out those that wait at a check which others have not reached.
        """
        with ExitStack() as lock:
            yield self._claimed(lock, in_rounds=in_rounds)

    def _claimed(self, lock: ExitStack, *, in_rounds: bool) -> optuna.Trial | None:
        """Return the first trial that can be locked and started, with its lock held; None without one."""
        trials = self.all()
        for state in ("RUNNING", "WAITING"):
            for frozen in trials:
                if frozen.state.name != state or (in_rounds and _waits(frozen, trials)):
                    continue
                try:
                    lock.enter_context(lock_file(self._locks / job_of(frozen).name, timeout=0))
                except Timeout:  # another worker has it
                    continue
                except OSError as error:
                    raise StorageError(
                        f"cannot lock a file in {self._locks}: {error.strerror}",
                        "put the folder of the study where files can be locked",
                    ) from error
                trial = self._start(frozen.number, state)
                if trial is not None:
                    return trial
                lock.close()
        return None

    @using_storage()
    def _start(self, number: int, state: str) -> optuna.Trial | None:
        """Return the trial as one that this worker trains, unless it has another state by now."""
        trial = self.study.get_trials(deepcopy=False)[number]
        if trial.state.name != state:
            return None
        if state == "WAITING" and not self.study._storage.set_trial_state_values(  # as `ask` does
            trial._trial_id, state=optuna.trial.TrialState.RUNNING
        ):
            return None
        self.study._thread_local.cached_all_trials = None  # as `ask` does, for samplers that look at other trials
        return optuna.Trial(self.study, trial._trial_id)

    @using_storage()
    def progress(self, trial: optuna.Trial) -> tuple[int, frozenset[int], list[str]]:
        """Return to which percentage of the budget a trial is trained, for which checks it was measured, and warnings.

        The warnings are those of its training.
        """
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        trained, warned = frozen.user_attrs.get(_TRAINED, 0), frozen.user_attrs.get(_WARNINGS, [])
        return trained, frozenset(frozen.intermediate_values), [*warned]

    @using_storage()
    def survives(self, trial: optuna.Trial, percent: int, factor: int) -> bool:
        """Return whether a trial is among the best after a check that all have reached: one of `factor`."""
        sign = 1 if self.study.direction.name == "MINIMIZE" else -1
        reached = [each for each in self.all() if percent in each.intermediate_values and each.state.name != "FAIL"]
        values = {each.number: each.intermediate_values[percent] for each in reached}
        ranked = sorted(values, key=lambda number: (values[number] != values[number], sign * values[number], number))
        return trial.number in ranked[: max(1, len(ranked) // factor)]

    @using_storage()
    def note_trained(self, trial: optuna.Trial, percent: int, warned: Sequence[str]) -> None:
        """Note to which percentage of the budget a trial is trained, and what its training warned of."""
        trial.set_user_attr(_WARNINGS, list(warned))
        trial.set_user_attr(_TRAINED, percent)

    @using_storage()
    def keeps_dying(self, trial: optuna.Trial, step: int) -> bool:
        """Note that a trial is started at a step; return whether its workers have died at this step several times."""
        starts = [*trial.user_attrs.get("starts", []), step]
        trial.set_user_attr("starts", starts)
        return starts[-_MOST_STARTS - 1 :] == [step] * (_MOST_STARTS + 1)

    @using_storage()
    def forget_starts(self, trial: optuna.Trial) -> None:
        """Let the starts of a trial so far not count, since its worker has ended in order."""
        trial.set_user_attr("starts", [])

    @using_storage()
    def tell(self, trial: optuna.Trial, value: float | None, result: Mapping[str, object], *, pruned: bool) -> None:
        """Store the result of a trial. Without a value it has failed."""
        trial.set_user_attr("result", dict(result))
        states = optuna.trial.TrialState
        state = states.PRUNED if pruned else states.FAIL if value is None else states.COMPLETE
        # Samplers that try every combination would end a loop of Optuna here.
        self.study.sampler = optuna.samplers.RandomSampler(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.study.tell(trial, None if value is None or pruned else value, state)


def _waits(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    """Return whether a trial has been measured at a check that others have still to reach."""
    check = max(trial.intermediate_values, default=0)
    if trial.user_attrs.get(_TRAINED, 0) != check:  # it is trained further
        return False
    others = (each for each in trials if each.state.name not in _FINISHED)
    return check > 0 and any(max(each.intermediate_values, default=0) < check for each in others)


@using_storage()
def job_of(trial: FrozenTrial | optuna.Trial) -> Job:
    """Return the run that a trial is."""
    return Job(**trial.user_attrs["job"])


def sampler_of(given: str | Mapping[str, Any], number: int) -> BaseSampler:
    """Return a sampler by its name in `optuna.samplers`, or from a table of its name and arguments.

    Its seed follows from the one given and the number of the trial, so that no trial repeats the random numbers of
    another. A sequence has one seed in all trials, each of which takes the next of its points. Raises ConfigError for
    an unknown sampler or argument.
    """
    name = given if isinstance(given, str) else given.get("name")
    if name in _UNFIT:
        raise ConfigError(f"{name} cannot be used by a study", _UNFIT[name])
    given_seed = 0 if isinstance(given, str) else given.get("seed", 0)
    seed = (given_seed * _SEEDS + number) % 2**32 if isinstance(given_seed, int) else given_seed
    known: dict[str, object] = {"seed": seed}
    if name == _SEQUENCE:  # the first trial has no point of it
        known = {"seed": given_seed, "independent_sampler": optuna.samplers.RandomSampler(seed=seed)}
    return _made("sampler", given, optuna.samplers.BaseSampler, known)  # type: ignore[type-abstract]  # a name


def check_sampler(study: StudyConfig) -> None:
    """Suggest two settings of the space. Raises ConfigError for a sampler that cannot."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the study in memory would be a line otherwise
    tried = optuna.create_study()
    for number in range(2):
        tried.sampler = sampler_of(study.sampler, number)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # experimental samplers say so
                trial = tried.ask()
                chosen = {key: suggest(trial, key, each) for key, each in study.distributions()}
                tried.sampler = optuna.samplers.RandomSampler(seed=0)  # as `Trials.tell` does
                tried.tell(trial, float(len(chosen)))
        except Exception as error:  # samplers raise errors of any kind, also for a package that is missing
            name = study.sampler if isinstance(study.sampler, str) else study.sampler.get("name")
            raise ConfigError(
                f"the sampler {name} cannot search this space: {_first_line(error)}", "name another sampler"
            ) from error


def suggest(trial: optuna.Trial, key: str, distribution: Distribution) -> object:
    """Return the value of a key that the sampler suggests."""
    if distribution.choice:
        return trial.suggest_categorical(key, distribution.choice)
    if distribution.integers:
        return trial.suggest_int(key, *distribution.integers)
    low, high = distribution.log or distribution.range or (0.0, 1.0)
    return trial.suggest_float(key, low, high, log=distribution.log is not None)


def pruner_of(given: str | Mapping[str, Any] | None) -> BasePruner:
    """Return a pruner by its name in `optuna.pruners`, or from a table of its name and arguments.

    None and `Halving` end no run while it trains.
    """
    if given is None or HALVING in (given, None if isinstance(given, str) else given.get("name")):
        return optuna.pruners.NopPruner()
    return _made("pruner", given, optuna.pruners.BasePruner, {})  # type: ignore[type-abstract]  # as above


def _made(what: str, given: str | Mapping[str, Any], kind: type[T], known: Mapping[str, object]) -> T:
    module = optuna.samplers if what == "sampler" else optuna.pruners
    table = {"name": given} if isinstance(given, str) else dict(given)
    name = table.pop("name", None)
    names = [each for each in dir(module) if isinstance(getattr(module, each), type)]
    names = [each for each in names if issubclass(getattr(module, each), kind) and each not in _UNFIT]
    names = [each for each in names if not each.startswith("Base")]
    if name not in names:
        raise ConfigError(unknown_name(what, str(name), names), "name one as in the documentation of Optuna")
    made: type[T] = getattr(module, str(name))
    taken = inspect.signature(made).parameters
    arguments = {**table, **{key: value for key, value in known.items() if key in taken}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental ones say so
            return made(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what} {name}: {error}", "correct its arguments in the study") from error
