"""A run: one object that trains, records, resumes and opens, from Python and for the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any
from warnings import warn

import torch
from torch import nn
from torch.utils.data import Dataset as TorchDataset

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.log import MetricsTable, describe_damage, read_log
from gancore.config.data_paths import data_dir_named, missing_data_named, with_absolute_paths
from gancore.config.from_path import findings_of
from gancore.config.layers import ConfigLayer, merge
from gancore.config.objects import check_objects, check_parts, is_object, table_of, with_objects
from gancore.config.picture_rules import fitting_batch
from gancore.config.requirements import attributed, catalog_for
from gancore.config.run import RunConfig, resolve
from gancore.config.suggest import Suggestion
from gancore.contracts import (
    Augmentation,
    Dataset,
    Discriminator,
    Generator,
    Loss,
    Objective,
    Regularizer,
)
from gancore.distributed.join import join_ranks
from gancore.distributed.ranks import SINGLE_RANK, Ranks, choose_device
from gancore.errors import CheckpointError, ConfigError, blame
from gancore.evaluation.defaults import evaluator_for_run
from gancore.evaluation.evaluator import Evaluation, Evaluator
from gancore.evaluation.sources import ReferenceImages
from gancore.evaluation.train_extractor import EvaluationPaths, Preparation
from gancore.run.cost import Cost, Timing, check_memory, check_pictures, cost_of, timed_steps
from gancore.run.directory import RunDirectory, next_directory
from gancore.run.first_weights import FirstWeights, check_early
from gancore.run.interrupt import Interruption, ending_at_ctrl_c
from gancore.run.lockstep import follow
from gancore.run.log import RecorderState
from gancore.run.measure import measure
from gancore.run.progress import Display, ProgressDisplay, one_line
from gancore.run.recorder import Late, Record, Records, Session, record
from gancore.run.resume import broadcast_run, find, run_exists
from gancore.run.source import (
    Named,
    Source,
    Start,
    assignment,
    base_of,
    duration_of,
    layers_for,
    table_of_part,
)
from gancore.run.unused_keys import is_chosen, keys_of_user, unused_keys
from gancore.sampling.load import load
from gancore.sampling.trained import TrainedGenerator
from gancore.training.gan import GAN
from gancore.training.initialize import Initializer
from gancore.training.loop import Step, train
from gancore.utils.copies import copy_part
from gancore.utils.memory import free_memory
from gancore.utils.paths import cache_root, data_root, shell_quote
from gancore.utils.threads import computing_with


class Run:
    """A training run and its folder.

    Train from a recipe, one record per step. Open the run later, train it for longer, and draw samples:

        import gancore

        run = gancore.Run("digits", out="runs/a", steps=200, set={"loss": "hinge"})
        for record in run.train(progress=True):
            if record.metrics:
                print(record.metrics["generator_loss"])
        run = gancore.open("runs/a")
        for record in run.resume(steps=300):
            pass
        run.load().sample(64, seed=0)  # a notebook shows a grid of images

    Train your own modules, dataset and loss, without a plugin:

        run = gancore.Run(
            generator=my_generator,  # maps latents (N, Z) to images (N, C, H, W) in [-1, 1]
            discriminator=my_discriminator,  # maps images to logits (N, 1)
            dataset=my_dataset,  # map-style: uint8 images (C, H, W), or pairs of image and label
            loss="hinge",
        )

    `source` is the name of a recipe, a TOML file, a dict of config keys, a `RunConfig`, or a list of layers in which
    later ones win. It may also be the path of your data, such as a folder of pictures: then a recipe is chosen that
    fits the data, and what you set yourself wins. The default is recipe `digits`, unless all four parts are given.
    `generator`, `discriminator`, `loss` and `dataset` replace those of the source. A name, a table or a component goes
    into the config; `dataset` may be the path of your data too. Any other object is used as it is: modules are trained
    and frozen in place, and must be passed to `gancore.open` again.
    `regularizers` and `augmentations` add to those of the source: names, tables of fields, or components of installed
    plugins, by labels that you choose.
    One of `epochs`, `steps`, `kimg` (thousands of real images) and `minutes` is the total, counted from the first step.
    `set` has more keys of the config, dotted or nested; None removes a key. `seed` is the seed of all random numbers.
    `out` is a new or empty folder for the run; by default the next number below runs/. `data_dir` has the files of
    datasets. `init_from` is a run, a checkpoint or a state dict whose weights training begins with; as `FirstWeights`
    they may have been read already. `device` is auto, cpu, cuda or mps. `catalog` has the plugins, by default all that
    are installed. `ranks` are the processes that train together, by default those that a launcher has started.

    Raises ConfigError with every wrong key of the config, PluginError for a plugin that cannot be used.
    """

    def __init__(
        self,
        source: Source | RunDirectory | None = None,
        *,
        generator: Named | nn.Module | Generator | None = None,
        discriminator: Named | nn.Module | Discriminator | None = None,
        loss: Named | Objective | Loss | None = None,
        dataset: Named
        | Path
        | TorchDataset[Any]
        | Dataset
        | None = None,  # Any: an item is (sample, condition) or a sample alone
        regularizers: Mapping[str, Named | Regularizer] | None = None,
        augmentations: Mapping[str, Named | Augmentation] | None = None,
        epochs: float | None = None,
        steps: int | None = None,
        kimg: float | None = None,
        minutes: float | None = None,
        seed: int | None = None,
        set: Mapping[str, object] | None = None,  # noqa: A002  # as the option --set
        out: str | Path | None = None,
        init_from: str | Path | FirstWeights | None = None,
        data_dir: str | Path | None = None,
        device: str = "auto",
        catalog: Catalog | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._device, self._data_root = device, data_root(data_dir)
        self._ranks = ranks  # None: those that a launcher has started, joined while the run trains
        self._recording: Ranks | None = None
        self._init_from = FirstWeights(Path(init_from)) if isinstance(init_from, str | Path) else init_from
        self._installed = catalog or Catalog.installed()
        self._objects: dict[str, object] = {}
        self._config: RunConfig | None = None
        self._asked: RunConfig | None = None
        """The config that `train(resume=True)` asks for: that of the folder once this object has written it, and before
        that the one without a choice of threads, precision and batch size."""
        self._recipe: str | None = None
        self._suggestion: Suggestion | None = None
        self._set_by_user: frozenset[str] = frozenset()
        self._is_chosen = False
        self._assembled: GAN | None = None
        self.gan: GAN | None = None
        """The GAN, once it is assembled: its networks, optimizers and progress."""
        self.cost: Cost | None = None
        """Parameters and memory, once the GAN is assembled."""
        self.timing: Timing | None = None
        """Time of a step and of the run, once a dry run has measured them."""
        self.warnings: list[str] = []
        """Plugins that are not loaded, what is unusual in the data, and what changed since the resumed checkpoint."""
        self._data: dict[str, Any] = {}  # Any: JSON
        parts = {"generator": generator, "discriminator": discriminator, "loss": loss, "dataset": dataset}
        given: dict[str, object] = {part: value for part, value in parts.items() if value is not None}
        if isinstance(source, RunDirectory):
            self.directory: RunDirectory | None = source
            self._existing(ranks or SINGLE_RANK)
            self._objects = given
            if source.config.is_file():  # the folder of rank 0 may be on another machine
                self.warnings += filter(None, [source.read_manifest().problem])
                check_parts(source.layers(Catalog(())), given, str(source.path))
            return
        self.directory = None if out is None else RunDirectory(Path(out))
        base = base_of(source, given, self._installed)
        above = list(self._layers_of(base.parts, base.layers or []))
        for key, labeled in (("regularizers", regularizers), ("augmentations", augmentations)):
            above += [] if labeled is None else [assignment(key, labeled, self._installed)]
        if duration := duration_of(epochs=epochs, steps=steps, kimg=kimg, minutes=minutes):
            above.append(ConfigLayer(f"{duration.split()[-1]}=", {"duration": duration}))
        if seed is not None:
            above.append(ConfigLayer("seed=", {"seed": seed}))
        above += [assignment(key, value, self._installed) for key, value in (set or {}).items()]
        below = base.layers or []
        if base.data or not isinstance(source, list | tuple):  # a list of layers is complete
            start = Start(
                self.directory.config if self.directory else None,
                self._init_from,
                lambda: (ranks or SINGLE_RANK).device(device).type != "cpu",
            )
            below, self._suggestion = layers_for(base.data, above, self._installed, below=base.layers, start=start)
        layers = [*below, *above]
        merged, _ = merge(layers)
        check_objects(merged, self.catalog)
        if replaced := [part for part in self._objects if not is_object(merged.get(part))]:
            raise ConfigError(f"{replaced[0]} is given twice: as an object, and by set", "leave one of them out")
        names = [layer.source.removeprefix("recipe ") for layer in layers if layer.source.startswith("recipe ")]
        self._recipe = names[0] if names else None
        self._config = self._asked = with_absolute_paths(resolve(layers, self.catalog))
        self._set_by_user, self._is_chosen = frozenset(keys_of_user(layers)), is_chosen(layers)

    def _layers_of(self, given: Mapping[str, object], below: Sequence[ConfigLayer]) -> Iterator[ConfigLayer]:
        """Keep the parts that are objects, and yield what the config holds for each part that was given."""
        config, _ = merge(below)
        for part, value in given.items():
            table = table_of_part(value, self._installed)
            if table is None:
                self._objects[part] = value
                table = config[part] if is_object(config.get(part)) else table_of(value)
            yield ConfigLayer(f"{part}=", {part: table})

    @cached_property
    def catalog(self) -> Catalog:
        """The plugins, with a stand-in for each part that was passed as an object."""
        return with_objects(self._installed, self._objects)

    @property
    def config(self) -> RunConfig:
        """The resolved config. For an opened run it is read on first use, and raises as `Run` does."""
        if self._config is None:
            directory = self._existing()
            catalog, _ = catalog_for(directory.read_manifest().entries, self.catalog, str(directory.path))
            self._config = resolve(directory.layers(catalog), catalog)
        return self._config

    @property
    def path(self) -> Path | None:
        """The folder of the run; None for a run whose number is not chosen yet."""
        return self.directory.path if self.directory else None

    @property
    def metrics(self) -> MetricsTable:
        """The lines of metrics.jsonl: a list of dicts, with `.to_pandas()`. Warns of damaged lines."""
        if self.directory is None:
            return MetricsTable()
        table = read_log(self.directory.metrics)
        if table.damaged:
            warn(describe_damage(self.directory.metrics, table.damaged), stacklevel=2)
        return table

    @property
    def data(self) -> dict[str, Any]:  # Any: JSON
        """What was understood of the data, as in the manifest: items, files used and skipped, classes with counts."""
        kept = self.directory.read_manifest().entries.get("data") if self.directory else None
        return self._data if kept is None else kept

    @property
    def samples(self) -> list[Path]:
        """The pictures, or arrays, that were drawn during training, oldest first."""
        return sorted(self.directory.samples.glob("step-*")) if self.directory else []

    @property
    def checkpoints(self) -> list[Path]:
        """The newest checkpoints, oldest first."""
        return checkpoint.kept(self.directory.checkpoints) if self.directory else []

    @property
    def best(self) -> Path | None:
        """The best checkpoint by the metric `checkpoint.best`, if there is one that is valid; reads all of it."""
        path = checkpoint.best_of(self.directory.checkpoints) if self.directory else None
        return path if path and path.is_file() and checkpoint.verify(path).problem is None else None

    @property
    def kept(self) -> str:
        """What this process has saved of the run, for the message of an error; empty before training has begun."""
        if self._recording is None:
            return ""
        if not self._recording.is_main:
            return "what process 0 has saved"
        saved = self.directory.saved if self.directory else None
        return f"checkpoint {saved}" if saved else f"{self.path}, without a checkpoint"

    def __repr__(self) -> str:
        newest = f", {self.checkpoints[-1].stem}" if self.checkpoints else ""
        return f"<gancore.Run {self.path or 'without a folder yet'}{newest}>"

    def load(self, *, raw: bool = False, best: bool = False, ema: float | None = None) -> TrainedGenerator:
        """Return the trained generator of the newest checkpoint, or of the best one, ready to sample.

        It has the averaged weights if the run keeps an average, unless `raw`; `ema` is the half-life in kimg of another
        average, of `ema.more_kimg`. Raises CheckpointError when there is no valid checkpoint, and ConfigError for a
        half-life that the run does not keep.
        """
        # The loaded weights go into a copy.
        objects = {part: copy_part(value) if part == "generator" else value for part, value in self._objects.items()}
        catalog = with_objects(self._installed, objects)
        return load(self._existing().path, raw=raw, best=best, ema=ema, device=self._device, catalog=catalog)

    def evaluate(
        self, *metrics: str, count: int | None = None, seed: int = 0, progress: bool | Display = False
    ) -> Evaluation:
        """Measure samples of the newest checkpoint as `gancore evaluate` does, each value next to that of real data.

        `metrics` are names such as "fd-random"; by default those of the run, else of its dataset. `count` is the number
        of samples, by default that of the dataset's protocol, and `seed` that of the samples. A notebook shows the
        result as a table. Raises CheckpointError without a valid checkpoint, ConfigError for unknown metrics, and
        DataError for data that cannot be read.
        """
        trained = self.load()
        paths = EvaluationPaths(self._data_root, cache_root(), choose_device(self._device))
        evaluator = evaluator_for_run(
            self.config,
            paths,
            self.catalog,
            metrics=metrics,
            sample_format=trained.sample_format,
            classes=trained.classes,
            count=count,
            seed=seed,
        )
        _display(progress).prepare(evaluator.prepare())
        return measure(trained, evaluator, paths.root)

    def assemble(self) -> GAN:
        """Prepare the data, build all parts, check that they fit each other, and return the GAN; nothing is written.

        The next `train` uses this GAN; without it `train` does the same by itself.
        Raises DataError for unfit data, PluginError for parts that do not fit.
        """
        self._assembled = self._assemble(self._ranks or SINGLE_RANK, Display())
        return self._assembled

    def dry_run(self, *, progress: bool | Display = False) -> Step:
        """Assemble the run, take a few steps, and return the first; nothing is written. Raises as `train` does.

        Afterward `cost` and `timing` say what the run takes.
        Modules that were passed as objects have their weights and buffers back afterward.
        """
        with (
            self._joined(progress) as (ranks, display),
            attributed(self.config, self.catalog),
            _unchanged([part for part in self._objects.values() if isinstance(part, nn.Module)]),
        ):
            self._check_new(ranks, display)
            for line in self._suggestion.table() if self._suggestion else ():
                display.note(line)
            start = self._start(display) if ranks.is_main else None
            gan = self._assemble(ranks, display)
            self._init_weights(gan, start, display)
            self._evaluator(gan)
            step, seconds = timed_steps(gan)
            self.timing = self._timing(gan, seconds)
            display.note(str(self.timing))
            return step

    def train(
        self, *, resume: bool = False, progress: bool | Display = False, interruption: Interruption | None = None
    ) -> Records:
        """Train to the total and yield a record of each step; nothing happens before the first record is asked for.

        With `resume` a run that exists in the folder is resumed, so that the same script starts and resumes it.
        `progress` shows a progress bar. A consumer that stops early leaves a checkpoint, and so does Ctrl-C, after the
        step; a second one ends the run at once. With an `interruption` the caller handles signals, and reports them to
        it. Under a launcher every process calls this; rank 0 alone writes.

        Raises ConfigError when the folder is not empty, CheckpointError when it holds a run with another config,
        DataError for unfit data, PluginError for a part that fails, NonFiniteError for NaN or infinity, StorageError
        when the folder cannot be written, InUseError when another process has it, WorkerError when one has died.
        """
        if interruption is not None:
            return self._train(interruption, resume=resume, progress=progress)
        interruption = Interruption()
        return ending_at_ctrl_c(self._train(interruption, resume=resume, progress=progress), interruption)

    def _train(self, interruption: Interruption, *, resume: bool, progress: bool | Display) -> Records:
        with ExitStack() as stack:
            ranks, display = stack.enter_context(self._joined(progress))
            stack.enter_context(attributed(self.config, self.catalog))
            if self.directory and ranks.is_main:
                stack.enter_context(self.directory.locked())
            if resume and self.directory and run_exists(self.directory, ranks):
                wanted, self._assembled = self._asked or self.config, None
                yield from self._resume(ranks, display, interruption, wanted.duration, wanted=wanted)
                return
            self._check_new(ranks, display)  # before any data is read
            start = self._start(display) if ranks.is_main else None
            gan, self._assembled = self._assembled, None
            if gan is None or gan.ranks != ranks:
                gan = self._assemble(ranks, display)
            if not ranks.is_main:
                yield from self._follow(gan, interruption)
                return
            if (seconds := gan.choice.seconds) is not None:
                display.note(str(self._timing(gan, seconds)))
            origin = {"recipe": self._recipe, "init_from": self._init_weights(gan, start, display)}
            del start  # which has all tensors of the file
            evaluator = self._evaluator(gan, display)  # before anything is written
            interruption.check()
            if self.directory is None:
                self.directory = next_directory(Path("runs"))
                stack.enter_context(self.directory.locked())
            about = {**origin, "chosen": asdict(gan.choice)} if gan.choice.was_tried else origin
            self.directory.create(self.config, self.catalog, gan.device, ranks.size, self._data, **about)
            self._asked = self.config
            session = Session(self.config, self.catalog, self.directory, gan, evaluator, interruption, self._data)
            yield from self._record(session, None, display)

    def resume(
        self,
        *,
        epochs: float | None = None,
        steps: int | None = None,
        kimg: float | None = None,
        minutes: float | None = None,
        data: str | Path | None = None,
        set: Mapping[str, object] | None = None,  # noqa: A002  # as the option --set
        progress: bool | Display = False,
        interruption: Interruption | None = None,
    ) -> Records:
        """Resume the run from its newest valid checkpoint, as if it had not been interrupted; yield as `train` does.

        A total counts from the very first step, so a longer one extends the run. A finished run yields nothing.
        `data` is where the files of the dataset are now. `set` changes keys of the config that a run can change, such
        as `batch_size` and `optimizer.generator.lr`; the run's manifest notes them.
        Raises as `train` does, ConfigError for a key that a run cannot change, and CheckpointError when there is no
        run, no valid checkpoint of it, or when the data has another shape or other classes.
        """
        duration = duration_of(epochs=epochs, steps=steps, kimg=kimg, minutes=minutes)
        settings = [assignment(key, value, self._installed) for key, value in (set or {}).items()]

        def records(interruption: Interruption) -> Records:
            with self._joined(progress) as (ranks, display):
                directory = self._existing(ranks)
                with directory.locked() if ranks.is_main else nullcontext():
                    yield from self._resume(ranks, display, interruption, duration, settings=settings, data=data)

        if interruption is not None:
            return records(interruption)
        interruption = Interruption()
        return ending_at_ctrl_c(records(interruption), interruption)

    def _resume(
        self,
        ranks: Ranks,
        display: Display,
        interruption: Interruption,
        duration: str | None,
        *,
        wanted: RunConfig | None = None,
        settings: Sequence[ConfigLayer] = (),
        data: str | Path | None = None,
    ) -> Iterator[Record]:
        """Resume the run in the locked folder, which must be the `wanted` one; only rank 0 needs the folder."""
        directory = self._existing(ranks)
        found = find(directory, self.catalog, duration, wanted, settings, data) if ranks.is_main else None
        self._config, catalog, trained_on = broadcast_run(found, self.catalog, ranks)
        self._set_by_user |= keys_of_user(settings)
        dataset, again = self._config.dataset, f"gancore resume {shell_quote(directory.path)}"
        with attributed(self._config, catalog), missing_data_named(dataset, f"{again} --data PATH"):
            directory.saved, directory.damaged = (found.path, {*found.damaged}) if found else (None, set())
            warnings = trained_on.check_outline(dataset)
            is_known = found is None or not found.reads_data_anew
            gan = self._assemble(ranks, display, is_known=is_known, again=again)
            found = found.with_choice(self._config) if found else None
            if found is None:
                if not ranks.broadcast(False):  # whether rank 0 finds the run finished
                    yield from self._follow(gan, interruption)
                return
            warnings += found.restore(gan, self._init_from)
            self._warn(display, list(dict.fromkeys([*catalog.warnings(), *found.warnings, *warnings])))
            state = found.state
            if ranks.broadcast(gan.done() >= 1 and not (state and state.pending)):
                if found.write_changes(gan, self._data):
                    display.note(f"{directory.config} has the new settings")
                self._asked = self._config.model_copy(update={"duration": found.written.duration})
                return
            display.note(f"{directory.path} resumes from step {found.step:,}")
            if self._config.total.unit == "minutes":
                display.note("note: the total is in minutes, so the resumed run is not repeated exactly")
            for change in found.changes:
                display.note(f"changed: {change}")
            evaluator = self._evaluator(gan, display)  # before anything is written
            interruption.check()
            found.discard_later(gan, self._data)
            self._asked = self._config
            session = Session(self._config, catalog, directory, gan, evaluator, interruption, self.data)
            yield from self._record(session, state, display)

    @contextmanager
    def _joined(self, progress: bool | Display) -> Iterator[tuple[Ranks, Display]]:
        """Join the processes that train together; yield them, and where this one shows its progress."""
        with nullcontext(self._ranks) if self._ranks else join_ranks(self._device) as ranks:
            yield ranks, _display(progress) if ranks.is_main else Display()

    def _existing(self, ranks: Ranks = SINGLE_RANK) -> RunDirectory:
        if self.directory is None:
            raise CheckpointError("this run has not been trained yet", "name the folder of a run, like runs/0001")
        if ranks.is_main:
            self.directory.check_exists()
        return self.directory

    def _check_new(self, ranks: Ranks, display: Display) -> None:
        if self._suggestion:
            for line in self._suggestion.lines():
                display.note(line)
        self._warn(display, self.catalog.warnings())
        for label, observer in self.config.observers.items():
            with blame(f"observer {label!r}", "in check()"):
                observer.check()
        if self.directory and ranks.is_main:
            self.directory.check_new()

    def _warn(self, display: Display, warnings: Sequence[str]) -> None:
        self.warnings += warnings
        for warning in warnings:
            display.warn(warning)

    def _assemble(self, ranks: Ranks, display: Display, *, is_known: bool = False, again: str = "") -> GAN:
        """Prepare the data, build all parts, and show what was understood of the data unless that is known already.

        `again` is the command that resumes a run.
        """
        dataset = self.config.dataset
        with data_dir_named(dataset, again):
            display.prepare(prepare(dataset, self._data_root))
        is_described = ranks.is_main and not is_known
        findings = findings_of(dataset, self._data_root) if is_described else None
        if findings and (found := findings.in_words()):  # before anything that may fail
            display.note(f"files: {found}")
        if self._is_chosen and "batch_size" not in self._set_by_user:
            self._lower_batch_size(display)
        self.gan = GAN.assemble(self.config, self._data_root, self._device, ranks)
        # The run repeats and resumes with the threads and the precision that are chosen now.
        self._config = self.config.model_copy(update={"training": self.gan.options.training})
        if is_described:
            summary = self.gan.summarize_data(dataset, findings)
            self._data = summary.to_data()
            for line in summary.lines():
                display.note(line)
            if self._leaves_out_labels(self.gan):
                display.note("the labels are not used: --set training.conditional=true uses them")
            for note in findings.notes if findings else ():
                display.note(f"note: {note}")
            augmented = bool(self.config.augmentations)
            self._warn(display, summary.warnings(conditional=self.config.training.conditional, augmented=augmented))
        if self.gan.choice.seconds_per_step:
            display.note(str(self.gan.choice))
        self._warn(display, [*self.gan.choice.warnings(self.gan.device), *self.gan.take_warnings()])
        self._warn(display, [*unused_keys(self._set_by_user, self.config, self.gan)])
        self.cost = cost_of(self.gan)
        display.note(str(self.cost))
        self._warn(display, [*self.cost.warnings(free_memory(self.gan.device))])
        check_pictures(self.config.sample.count, self.gan.feed.shape)
        for line in _details(self.gan, self.config, self.catalog):
            display.detail(line)
        return self.gan

    def _lower_batch_size(self, display: Display) -> None:
        """Lower a batch size that was chosen before the data was read, if less of it can be used."""
        items = len(ReferenceImages.of(self.config.dataset, self._data_root))
        fits, chosen = fitting_batch(items, self.config.batch_size), self.config.batch_size
        if items and fits != chosen:
            self._config = self.config.model_copy(update={"batch_size": fits})
            why = f"since only {items:,} items can be used; --set batch_size={fits} repeats this"
            self._warn(display, [f"batch_size {fits} instead of {chosen}, {why}"])

    def _leaves_out_labels(self, gan: GAN) -> bool:
        """Return whether files of the user have labels that the run does not use, and the user has not said so."""
        if self.config.training.conditional or "training.conditional" in self._set_by_user:
            return False
        return hasattr(self.config.dataset, "path") and gan.feed.condition not in (None, 1)

    def _start(self, display: Display) -> Initializer | None:
        """Read the weights of `init_from`, and show what fits, before the data is read where its form is known."""
        if self._init_from is None:
            return None
        stored = self._init_from.take()
        self._warn(display, stored.warnings)
        start = Initializer(stored, self.config)
        check_early(start, self.config)
        display.notes(start.lines)
        return start

    def _init_weights(self, gan: GAN, start: Initializer | None, display: Display) -> str | None:
        """Load the weights of `init_from`; return their digest."""
        if start is None:
            return None
        shown = start.lines
        self._warn(display, start.apply(gan))
        if start.lines != shown:
            display.notes(start.lines)
        display.notes(start.adapted)
        return start.stored.digest

    def _evaluator(self, gan: GAN, display: Display | None = None) -> Evaluator | None:
        """Return the evaluator of the run's metrics, prepared if there is a display; None for a run without metrics."""
        if not self.config.metrics:
            return None
        paths = EvaluationPaths(self._data_root, cache_root(), gan.device)
        count = self.config.evaluate.samples
        evaluator = evaluator_for_run(self.config, paths, self.catalog, training=gan.feed.dataset, count=count)
        check_memory(evaluator.count, gan.feed.shape, gan.feed.format.dtype)
        if display:
            with computing_with(gan.choice.threads):
                display.prepare(evaluator.prepare())
        return evaluator

    def _record(self, session: Session, state: RecorderState | None, display: Display) -> Iterator[Record]:
        """Train and record to the total."""
        gan = session.gan
        self._recording = gan.ranks

        def show_late(late: Late) -> None:
            if late.evaluation:
                display.note(f"step {late.step}  {one_line(late.evaluation)}")
                for note in late.evaluation.notes:
                    display.note(f"note: {note}")
            self._warn(display, [*(late.evaluation.warnings if late.evaluation else ()), *late.warnings])

        records = record(train(gan), session, state, show_late)
        with display.training(self._total(gan)[0]), closing(records):
            for recorded in records:
                display.show(recorded)
                yield recorded

    def _total(self, gan: GAN) -> tuple[float | None, int]:
        """Return the total in epochs, None for minutes, and the number of images of a step."""
        total, batches_per_step = self.config.total, self.config.training.discriminator_steps
        images_per_step = self.config.batch_size * batches_per_step
        epochs = total.total_epochs(gan.feed.size, images_per_step)
        if total.unit == "steps":  # known exactly; steps that are done may have had another batch size
            batches = (int(total.amount) - gan.progress.step) * batches_per_step
            epochs = gan.feed.images_after(gan.progress.images_seen, max(0, batches)) / gan.feed.size
        return epochs, images_per_step

    def _timing(self, gan: GAN, seconds_per_step: float) -> Timing:
        epochs, images_per_step = self._total(gan)
        kimg = None if epochs is None else epochs * gan.feed.size / 1000
        return Timing.of_steps(seconds_per_step, images_per_step, kimg)

    def _follow(self, gan: GAN, interruption: Interruption) -> Iterator[Record]:
        """Take the same steps as rank 0, which alone records them and decides when the run ends."""
        self._recording = gan.ranks
        steps = follow(train(gan), gan, interruption)
        for step in steps:
            try:
                yield Record(step)
            except GeneratorExit:
                for _ in steps:
                    pass
                raise


def open(  # noqa: A001  # gancore.open
    path: str | Path,
    *,
    generator: nn.Module | Generator | None = None,
    discriminator: nn.Module | Discriminator | None = None,
    loss: Objective | Loss | None = None,
    dataset: TorchDataset[Any] | Dataset | None = None,  # Any: an item is (sample, condition) or a sample alone
    data_dir: str | Path | None = None,
    device: str = "auto",
    catalog: Catalog | None = None,
    ranks: Ranks | None = None,
) -> Run:
    """Return the run in a folder, to inspect it, resume it, or sample its generator.

    Parts that were passed to `Run` as objects must be passed again. The other parameters are those of `Run`. Raises
    CheckpointError when there is no run in the folder, ConfigError when an object is missing, or is passed for a part
    that the config names.
    """
    return Run(
        RunDirectory(Path(path)),
        generator=generator,
        discriminator=discriminator,
        loss=loss,
        dataset=dataset,
        data_dir=data_dir,
        device=device,
        catalog=catalog,
        ranks=ranks,
    )


@contextmanager
def _unchanged(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Give the modules their weights, buffers and modes back after the block, and what `training.freeze` freezes."""
    states = [deepcopy(module.state_dict()) for module in modules]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    trained = [(weight, weight.requires_grad) for module in modules for weight in module.parameters()]
    try:
        yield
    finally:
        for module, state in zip(modules, states, strict=True):
            module.load_state_dict(state)
        for part, mode in modes:
            part.training = mode
        for weight, wanted in trained:
            weight.requires_grad_(wanted)


def prepare(dataset: Dataset, root: Path) -> Iterator[Preparation]:
    """Run the dataset's slow first-time work; yield its progress. Raise PluginError when it fails."""
    with blame(f"dataset {dataset.name!r}"):
        for done in dataset.prepare(root):
            yield Preparation(f"preparing dataset {dataset.name}", done)


def _display(progress: bool | Display) -> Display:
    """Return where progress is shown; a display that shows nothing without it."""
    if isinstance(progress, Display):
        return progress
    return ProgressDisplay() if progress else Display()


def _details(gan: GAN, config: RunConfig, catalog: Catalog) -> Iterator[str]:
    """Yield the lines that `-v` shows about data, networks, plugins and precision."""
    shape = "x".join(map(str, gan.feed.shape))
    yield f"data: {gan.feed.size:,} of shape {shape}, on {gan.device.type}"
    for player, network in (("generator", gan.generator), ("discriminator", gan.discriminator)):
        count = sum(parameter.numel() for parameter in network.parameters())
        yield f"{player}: {getattr(config, player).name}, {count:,} parameters"
    for component in config.components():
        yield f"{component.kind} {component.name} is from {catalog.origin_of(type(component)).origin}"
    yield f"threads: {gan.choice.threads or torch.get_num_threads()}, precision: {gan.precision.name}"
    yield f"real and fake go through the discriminator {'together' if gan.critic.one_pass else 'apart'}"
