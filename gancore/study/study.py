"""A study: many runs in one folder, trained by any number of workers, compared or searched."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

import gancore
from gancore.catalog.catalog import Catalog
from gancore.catalog.discovery import NO_PLUGINS
from gancore.config.layers import flattened, nested
from gancore.config.run import RunConfig
from gancore.distributed.ranks import choose_device
from gancore.errors import ConfigError, GancoreError, NumericsError, WorkerError, numbered
from gancore.evaluation.train_extractor import EvaluationPaths
from gancore.run.interrupt import Interruption, ctrl_c_arrives_at
from gancore.run.progress import Display, ProgressDisplay
from gancore.run.run import prepare
from gancore.study.arms import Sources, make_run, measured_config, problems_of_arms
from gancore.study.definition import BASE, BEST, FILE, StudyConfig, Table, read_study
from gancore.study.measure import Measure
from gancore.study.processes import WorkerProcesses
from gancore.study.results import COMPARISON, SEARCH, Outcome, Results, StudyReport
from gancore.study.statistics import LEVEL, fewest_seeds, smallest_p
from gancore.study.trials import (
    BRUTE_FORCE,
    LOCK,
    Job,
    Trials,
    check_installed,
    check_sampler,
    job_of,
    open_storage,
    pruner_of,
    using_storage,
)
from gancore.study.work import Worker
from gancore.utils.atomic import atomic_write
from gancore.utils.cores import cores_in_words, usable_cores
from gancore.utils.lock import lock_file
from gancore.utils.paths import cache_root, data_root, shell_quote

STORAGE = "GANCORE_STUDY_STORAGE"
"""Environment variable with the database of a study, as the option --storage."""
IDENTITY = ".id"
"""The file in the folder that has the name of the study in its storage, and a random text."""
_POLL_S, _LOOK_S = 2.0, 0.2
"""Seconds between two checks for trials whose worker has died, and of the processes that this one has started."""
_MAY_GROW = ("seeds", "variants", "trials", "storage")
"""Keys that may differ when a study continues: more seeds, variants and trials are added."""
_CORRECT = "correct the study; see the keys of runs with: gancore show run"
_STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


class Study:
    """A study and its folder.

    Compare variants with a baseline over paired seeds:

        import gancore

        study = gancore.Study(
            base="digits",
            budget="20 kimg",
            seeds=5,
            metric="fd-classifier",
            variants={"hinge": {"loss": "hinge"}},
            out="studies/hinge",
        )
        study.run(workers=2)
        print(study.report.conclusions())
        study.results.to_pandas()

    `source` is a TOML file or a table with the fields of `StudyConfig`, which keywords replace; without both the study
    in the folder `out` is opened. `data_dir` has the files of datasets. `device` is auto, cpu, cuda or mps. `catalog`
    has the plugins, by default all that are installed. Runs are ordinary run folders in `out`/runs.

    `storage` is a database, by default that of the environment variable GANCORE_STUDY_STORAGE, else of the study. The
    variable does not count for a folder whose study began without a database.
    Raises ConfigError for wrong fields. A folder that has another study is refused before it is read or changed.
    """

    def __init__(
        self,
        source: str | Path | Table | None = None,
        *,
        out: str | Path,
        data_dir: str | Path | None = None,
        device: str = "auto",
        catalog: Catalog | None = None,
        storage: str | None = None,
        **fields: object,
    ) -> None:
        check_installed()
        self.path = Path(out)
        known = self.path / FILE
        if source is None and not fields:
            if not known.is_file():
                raise ConfigError(f"there is no study in {self.path}", "name the folder of a study, or its TOML file")
            source = known
        if source is None:
            config = read_study(fields)
        else:
            config = read_study(Path(source) if isinstance(source, str | Path) else source)
            config = read_study(config.model_dump(exclude_unset=True) | fields) if fields else config
        begun = read_study(known) if known.is_file() else None
        if begun is not None:
            given = {key: getattr(begun, key) for key in ("threads", "storage") if getattr(config, key) is None}
            config = config.model_copy(update={key: value for key, value in given.items() if value is not None})
        if storage is None and (begun is None or begun.storage is not None):
            storage = os.environ.get(STORAGE)
        if storage is not None:
            config = config.model_copy(update={"storage": storage})
        if config.storage is not None:
            config = config.model_copy(update={"storage": _absolute(config.storage)})
        self.config: StudyConfig = config
        self._begun = begun
        self._sources = Sources(catalog or Catalog.installed(), device, None if data_dir is None else Path(data_dir))
        self._root = data_root(data_dir)

    @cached_property
    def _baseline(self) -> RunConfig:
        return make_run(self.config, self.config.arms[self.config.baseline], 0, self._sources).config

    @cached_property
    def measure(self) -> Measure:
        """The metrics of the study; `prepare` it before results are measured."""
        paths = EvaluationPaths(self._root, cache_root(), choose_device(self._sources.device))
        return Measure(self.config, measured_config(self.config, self._sources), paths, self._sources.catalog)

    @cached_property
    def _stages(self) -> dict[str, Trials]:
        """The trials of each stage, in order.

        Raises ConfigError when the storage cannot be used, and when the folder has another study.
        """
        self._check_folder()
        return self._open_stages(None)

    def _open_stages(self, about: Mapping[str, Any] | None) -> dict[str, Trials]:  # Any: JSON
        storage, (name, identity) = open_storage(self.config, self.path), self._identity()
        names = {SEARCH: f"{name}-{SEARCH}", COMPARISON: name} if self.config.is_search else {COMPARISON: name}
        return {stage: Trials(storage, each, self.path, identity, about) for stage, each in names.items()}

    def _identity(self) -> tuple[str, str]:
        """Return the name of the study in a storage, and the text by which it knows this folder from another one.

        The name is that of the folder when the study began: it may be renamed, and have another name elsewhere.
        """
        path = self.path / IDENTITY
        if not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text(f"{self.path.resolve().name}\n{os.urandom(8).hex()}\n", encoding="utf-8")
        name, _, identity = path.read_text(encoding="utf-8").strip().rpartition("\n")
        return name, identity

    def _about(self) -> dict[str, Any]:  # Any: JSON
        """Return what the storage keeps of the study, so that results can be read without the data."""
        machine = (
            f"{platform.machine()}, {cores_in_words()}, {choose_device(self._sources.device)}; gancore "
            f"{gancore.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
        )
        parts = {"chosen_by": self.measure.chosen_by, "reported_by": self.measure.reported_by}
        return {"better": self.measure.better(), "machine": machine, **parts}

    def check(self) -> None:
        """Check everything before any run: the folder, keys of all arms, metrics, sampler and pruner, and the storage.

        Raises ConfigError with everything that is wrong. What is wrong in one place only is raised as it is, such as
        PluginError for a plugin that cannot be used.
        """
        if self.path.is_file() or (self.path / "config.toml").is_file():
            kind = "a file" if self.path.is_file() else "the folder of a run"
            raise ConfigError(f"{self.path} is {kind}", "name another folder for the study")
        errors = self._errors()
        if not errors:
            self.path.mkdir(parents=True, exist_ok=True)
            open_storage(self.config, self.path)
        elif len(errors) == 1:
            raise errors[0]
        else:
            texts = [str(error).removeprefix("wrong study: ") for error in errors]
            raise numbered("wrong study", texts, _CORRECT)

    def _errors(self) -> list[GancoreError]:
        """Return everything that is wrong."""
        errors, config = list[GancoreError](), self.config
        checks: list[Callable[[], object]] = [self._check_folder]
        if config.is_search:
            checks += [partial(pruner_of, config.pruner), partial(check_sampler, config), self._check_combinations]
        if config.storage is not None:  # one in the folder is opened when all the rest is right
            checks.append(partial(open_storage, config, self.path))
        for check in checks:
            try:
                check()
            except GancoreError as error:
                errors.append(error)
        return [*errors, *self._errors_of_arms()]

    def _errors_of_arms(self) -> Iterator[GancoreError]:
        """Yield what is wrong with arms, and with metrics for the data of the baseline."""
        unusable, is_conditional = None, False
        try:
            is_conditional = any("conditions" in metric.needs for metric in self.measure.report.metrics.values())
        except GancoreError as error:
            unusable = error
        problems = list(problems_of_arms(self.config, self._sources, is_conditional=is_conditional))
        if unusable and f"{self.config.baseline}: {unusable}" not in problems:
            yield unusable
        for text in problems:
            yield ConfigError(f"wrong study: {text}", _CORRECT)

    def _check_folder(self) -> None:
        """Raise ConfigError if the folder has another study."""
        if self._begun is not None:
            _check_same(self.config, self._begun, self.path)

    def _check_combinations(self) -> None:
        """Raise ConfigError if the search has more trials than settings, unless each setting is tried once."""
        config, settings = self.config, self.config.combinations
        name = config.sampler if isinstance(config.sampler, str) else config.sampler.get("name")
        if settings is not None and settings < config.trials and name != BRUTE_FORCE:
            raise ConfigError(
                f"the space has {settings} settings, fewer than the {config.trials} trials",
                f'set trials = {settings} and sampler = "{BRUTE_FORCE}", which tries each of them once',
            )

    def run(
        self,
        *,
        workers: int = 1,
        retry: bool = False,
        progress: bool | Display = False,
        interruption: Interruption | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Results:
        """Train and measure all runs that are not finished yet, and return the results.

        `workers` processes on this machine share its cores, or have a GPU each; others may join with `work`. With 0 the
        study is checked and begun, and nothing is trained. `retry` trains runs again that an error has ended, from
        their newest checkpoints. `note` gets a line for each finished run. Stopping keeps everything: the next call,
        or another worker, continues. Ctrl-C ends a run after its step, a second one at once; with an `interruption` the
        caller handles signals, and reports them to it.
        Raises ConfigError as `check`, DataError for unfit data, WorkerError when all workers have died.
        """
        if self.config.threads is None:
            share = max(1, usable_cores() // max(1, workers))
            self.config = self.config.model_copy(update={"threads": share})
        self.check()
        note = note or _ignore
        display = progress if isinstance(progress, Display) else ProgressDisplay() if progress else Display()
        display.prepare(prepare(self._baseline.dataset, self._root))
        self._begin(retry=retry)
        self._announce(workers, note)
        if not self._is_finished:
            display.prepare(self.measure.prepare())
            self.measure.check_numbers()
        with _interruptible(interruption) as interruption:
            if workers == 1:
                self._work(interruption, note)
            elif workers > 1 and not self._is_finished:
                self._share(workers, interruption, note, is_quiet=note is _ignore)
        self.write_page()
        return self.results

    def work(self, *, interruption: Interruption | None = None, note: Callable[[str], None] | None = None) -> None:
        """Join as one more worker, on this machine or another one that has the folder; return when all is finished."""
        if self.config.threads is None:
            raise ConfigError(f"the study in {self.path} has not begun", "gancore study run FILE.toml --out DIR")
        if not self._is_finished:
            for _ in (*prepare(self._baseline.dataset, self._root), *self.measure.prepare()):
                pass
        with _interruptible(interruption) as interruption:
            self._work(interruption, note or _ignore)
        self.write_page()

    def write_page(self, out: str | Path | None = None) -> Path:
        """Write the page of the study, by default report.html in its folder, and return its path."""
        from gancore.study.page import write_study_page  # plots take a second to import

        return write_study_page(self.report, self.path, None if out is None else Path(out))

    @property
    def _is_finished(self) -> bool:
        """Whether all planned runs are finished; a study grows by `_begin` before."""
        return all(trials.finished for trials in self._stages.values())

    @property
    def results(self) -> Results:
        """A dict for each run: stage, arm, seed, state, failure, what it took, and its metrics."""
        return self.report.rows()

    @property
    def report(self) -> StudyReport:
        """What is known so far: rows, comparisons with the baseline, conclusions."""
        outcomes = [outcome for stage, trials in self._stages.items() for outcome in _outcomes(stage, trials)]
        return StudyReport(self.config, outcomes, **self._stages[COMPARISON].about)

    def _begin(self, *, retry: bool) -> None:
        """Write the study and add its trials, those of the comparison if nothing is to be searched before.

        `retry` adds trials for runs that an error has ended, those of a search only before its best one is compared.

        Raises ConfigError for a folder that has another study, and for a longer search whose best setting has been
        compared already.
        """
        with using_storage(), lock_file(self.path / LOCK):
            self._stages = self._open_stages(self._about())
            comparison, search = self._stages[COMPARISON], self._stages.get(SEARCH)
            if (begun := comparison.config) is not None:
                _check_same(self.config, StudyConfig.model_validate(begun), self.path)
            if search is not None:
                jobs = self._searched()
                if comparison.all() and len(jobs) > len(search.all()):
                    raise ConfigError(
                        f"the search in {self.path} is over, and its best setting is being compared",
                        "give a longer search a new folder",
                    )
                search.add(jobs)
            with atomic_write(self.path / FILE) as temporary:
                temporary.write_text(self.config.to_toml(), encoding="utf-8")
            kept = self.config.model_dump(mode="json", exclude_unset=True, exclude={"storage"})
            for trials in self._stages.values():
                trials.keep_config(kept)
            if retry:
                (search if search is not None and not comparison.all() else comparison).retry()
            self._add_compared()

    def _add_compared(self) -> None:
        """Add trials of the comparison that are missing, once the search is over. The caller has the lock."""
        comparison, search = self._stages[COMPARISON], self._stages.get(SEARCH)
        if search is None or search.finished:
            comparison.add(list(self._compared(comparison)))

    def _announce(self, workers: int, note: Callable[[str], None]) -> None:
        """Note how many runs are left, and whether they are too few to show a difference."""
        outcomes, config = self.report.outcomes, self.config
        left = sum(not each.is_over for each in outcomes)
        if left and workers:
            note(f"{left} of {len(outcomes)} runs to train, {workers} at a time")
        elif left:
            note(f"begun: {left} runs wait; train them with: gancore study work {shell_quote(self.path)}")
        tests = 1 if config.is_search else len(config.arms) - 1
        if tests and left and smallest_p(len(config.seed_list), tests) >= LEVEL:
            note(f"warning: no difference can be shown with fewer than {fewest_seeds(tests)} seeds")

    def _searched(self) -> list[Job]:
        count, most = self.config.trials, self.config.combinations
        count = count if most is None else min(count, most)
        seeds = {job_of(trial).seed for trial in self._stages[SEARCH].all()} or {self.config.search_seed}
        if shared := seeds & set(self.config.seed_list):
            raise ConfigError(
                f"the search has seed {min(shared)}, which cannot be a seed of the comparison",
                "list the seeds without it, such as seeds = [0, 1, 3]",
            )
        return [Job(f"{SEARCH}-{number:04d}", SEARCH, seed, {}) for seed in seeds for number in range(count)]

    def _compared(self, comparison: Trials) -> Iterator[Job]:
        """Yield the runs of the comparison, seed by seed, so that an early look has as many of each arm."""
        arms: dict[str, Mapping[str, Any]] = dict(self.config.arms)  # Any: data of a file
        if self.config.is_search:
            known = [job_of(trial) for trial in comparison.all()]
            best = next((job.keys for job in known if job.arm == BEST), None)
            arms = {BASE: {}, BEST: self._best() if best is None else best}
        for seed in self.config.seed_list:
            yield from (Job(f"{arm}-{seed}", arm, seed, keys) for arm, keys in arms.items())

    def _best(self) -> dict[str, Any]:  # Any: data of a file
        """Return the config keys that the search has found. Raises NumericsError if no run of it has a result."""
        best = self.report.best_searched()
        if best is None:
            hint = f"gancore report {shell_quote(self.path)} says why"
            raise NumericsError("no run of the search has ended with a finite metric", hint)
        return nested(best.keys)

    def _work(self, interruption: Interruption, note: Callable[[str], None]) -> None:
        """Take trials until all are finished; wait for those of other workers, which may have to be taken up."""
        worker = Worker(self.config, self.path, self.measure, self._sources, interruption)
        for stage, trials in self._stages.items():
            if stage == COMPARISON:
                with using_storage(), lock_file(self.path / LOCK):
                    self._add_compared()
            while not trials.finished:
                interruption.check()
                with trials.claim(in_rounds=self.config.halving is not None) as trial:
                    if trial is not None:
                        note(worker.finish(trials, trial, searches=stage == SEARCH))
                if trial is None:
                    time.sleep(_POLL_S)

    def _share(self, workers: int, interruption: Interruption, note: Callable[[str], None], *, is_quiet: bool) -> None:
        """Start workers as processes, and wait for them. Raise WorkerError if runs are left when all have ended."""
        devices = torch.cuda.device_count() if self._sources.device in ("auto", "cuda") else 0
        command = [*self._command(), *(["-q"] if is_quiet else [])]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.config.threads or 1)}
        environment.pop(STORAGE, None)
        if self.config.storage is not None:  # not on the command line, which others on the machine can read
            environment[STORAGE] = self.config.storage
        with WorkerProcesses(command, workers, devices, environment) as processes:
            while processes.are_working:
                interruption.check()
                for line in processes.lines():
                    note(line)
                time.sleep(_LOOK_S)
        for line in processes.lines():
            note(line)
        if not self._stages[COMPARISON].finished:
            failures = "; ".join(processes.failures())
            raise WorkerError(f"the workers have ended before all runs were finished: {failures}", "run it again")

    def _command(self) -> list[str]:
        """Return the command of one more worker with the same plugins, data and device."""
        options = ["--device", self._sources.device]
        if self._sources.data_dir is not None:
            options += ["--data-dir", str(self._sources.data_dir)]
        plugins = self._sources.catalog.plugins
        chosen = ["--no-plugins"] if any(plugin.off == NO_PLUGINS for plugin in plugins) else []
        chosen += [word for plugin in plugins if plugin.sha256 for word in ("--plugin", plugin.entry)]
        return [sys.executable, "-m", "gancore_cli", *chosen, "study", "work", str(self.path), *options]


def _absolute(storage: str) -> str:
    """Return the address of a database, that of a file with its absolute path."""
    scheme, separator, path = storage.partition(":///")
    is_relative = scheme.startswith("sqlite") and separator and path and not path.startswith(("/", ":"))
    return f"{scheme}{separator}{Path(path).absolute()}" if is_relative else storage


@contextmanager
def _interruptible(given: Interruption | None) -> Iterator[Interruption]:
    """Yield the interruption that the caller gave, or one at which Ctrl-C in this block arrives."""
    interruption = given or Interruption()
    with ctrl_c_arrives_at(interruption) if given is None else nullcontext():
        yield interruption


def _ignore(line: str) -> None:
    """Show nothing."""


def _outcomes(stage: str, trials: Trials) -> Iterator[Outcome]:
    for trial in trials.all():
        job, result = job_of(trial), dict(trial.user_attrs.get("result", {}))
        result.setdefault("keys", flattened(job.keys) if job.keys else {})
        result.setdefault("numbers", {})
        yield Outcome(stage, job.name, job.arm, job.seed, _STATES[trial.state.name], **result)


def _check_same(config: StudyConfig, known: StudyConfig, folder: Path) -> None:
    """Raise ConfigError unless the study in a folder is the same but for more seeds, variants or trials."""
    before, now = ({**each.model_dump(), "seeds": each.seed_list} for each in (known, config))
    different = [key for key in before if before[key] != now[key] and key not in _MAY_GROW]
    if not set(known.seed_list) <= set(config.seed_list):
        different.append("seeds")
    if not known.variants.items() <= config.variants.items():
        different.append("variants")
    if config.trials < known.trials:
        different.append("trials")
    if different:
        values = "; ".join(f"{key} is {before[key]!r} there, and {now[key]!r} here" for key in different)
        raise ConfigError(
            f"{folder} has another study: {values}", "name another folder with --out; seeds and variants can be added"
        )
