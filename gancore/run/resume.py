"""Resuming a run from its newest valid checkpoint, exactly as if it had not been interrupted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gancore.catalog.catalog import Catalog
from gancore.checkpoint.log import describe_damage, read_log
from gancore.checkpoint.manifest import sound
from gancore.checkpoint.store import Checkpoint, best_of, newest_valid, verify
from gancore.config.data_paths import with_absolute_paths
from gancore.config.layers import ConfigLayer
from gancore.config.objects import check_objects
from gancore.config.requirements import catalog_for, needs_of
from gancore.config.run import RunConfig, resolve
from gancore.distributed.ranks import Ranks
from gancore.errors import CheckpointError, ConfigError, PluginError
from gancore.run.changes import Change, changes, command_of_new_run, refused, with_removed_tables
from gancore.run.directory import Resumed, RunDirectory, describe
from gancore.run.first_weights import FirstWeights
from gancore.run.log import RecorderState, recorder_state, truncate_log
from gancore.run.same_data import TrainedOn, moved
from gancore.training.gan import GAN
from gancore.training.initialize import Initializer
from gancore.utils.paths import shell_quote

_EXACT = ("gancore", "torch", "machine", "device", "threads", "ranks")
"""Facts that must not have changed for an exact resume."""
_DEFAULTS = {"ranks": 1}
"""Their values where a checkpoint does not give them."""


@dataclass(frozen=True)
class Resumable:
    """A run that can be resumed: its config, and its newest valid checkpoint, None if it ended before the first.

    `written` is the config in its folder, which `config` replaces, and `changes` is how `config` differs from that of
    the checkpoint. `catalog` holds the plugins that the run needs; `warnings` say what has changed.
    """

    directory: RunDirectory
    config: RunConfig
    written: RunConfig
    changes: tuple[Change, ...]
    checkpoint: Checkpoint | None
    catalog: Catalog
    warnings: tuple[str, ...]
    path: Path | None = None
    """The file of the checkpoint."""
    damaged: tuple[Path, ...] = ()
    """Newer checkpoints, which are not valid."""
    has_damaged_best: bool = False
    """Whether there is a best checkpoint that is not valid."""

    @property
    def step(self) -> int:
        """The step of the checkpoint; 0 without one."""
        return int(self.checkpoint.about["progress"]["step"]) if self.checkpoint else 0

    @property
    def state(self) -> RecorderState | None:
        """The recorder's state at the checkpoint. Raises CheckpointError when the checkpoint does not hold it."""
        if self.checkpoint is None:
            return None
        state = recorder_state(self.checkpoint.about, self.directory.path)
        # Values of another metric, or of other numbers of samples, cannot be compared.
        others = ("metrics.", "evaluate.samples", "checkpoint.best")
        if self.has_damaged_best or any(change.key.startswith(others) for change in self.changes):
            state.best = None
        return state

    @property
    def trained_on(self) -> TrainedOn:
        """The data that the run was trained on."""
        about = self.checkpoint.about["data_format"] if self.checkpoint else None
        path = self.directory.path
        return TrainedOn(about, str(path), command_of_new_run(path, self._unwritten))

    @property
    def has_other_data(self) -> bool:
        """Whether settings of the data have changed since the checkpoint, or are not written yet."""
        return any(change.key.startswith("dataset.") for change in (*self.changes, *self._unwritten))

    def with_choice(self, config: RunConfig) -> Resumable:
        """Return the run with the config of its GAN, in which the threads and the precision are chosen."""
        training = config.to_data(self.catalog)["training"]
        actual = [
            change._replace(now=training[change.key.partition(".")[2]]) if change.asks_to_choose else change
            for change in self.changes
        ]
        return replace(self, config=config, changes=tuple(each for each in actual if each.now != each.before))

    def restore(self, gan: GAN, init_from: FirstWeights | None = None) -> list[str]:
        """Give the GAN the state of the checkpoint; return warnings about what has changed.

        A run without a checkpoint takes its first weights from `init_from` again, if it began from a checkpoint.
        Raises CheckpointError when the state is not of this run, or `init_from` is not what the run began from.
        """
        if self.checkpoint is not None:
            warnings = self.trained_on.check(gan)
            gan.restore(self.checkpoint.tensors, self.checkpoint.about["progress"])
            return [*warnings, *self._inexact(gan, self.checkpoint.about)]
        origin = init_from.take() if init_from else None
        manifest = self.directory.read_manifest()
        digest = manifest.entries.get("init_from")
        if "init_from" not in manifest.entries:
            raise CheckpointError(
                f"the run in {self.directory.path} has no checkpoint yet, and it is not known which weights it was to "
                f"begin with: {manifest.problem}",
                f"start it again: gancore train {shell_quote(self.directory.config)} --out NEW",
            )
        if digest != (origin and origin.digest):
            again = f"gancore train … --init-from CHECKPOINT --out {shell_quote(self.directory.path)} --resume"
            raise CheckpointError(
                f"the run in {self.directory.path} has no checkpoint yet, and was to begin from "
                + (f"the weights of a checkpoint of digest {digest[:12]}" if digest else "weights of its own"),
                f"repeat the command that started it: {again}" if digest else "leave --init-from out",
            )
        if origin:
            return [*origin.warnings, *Initializer(origin, self.config).apply(gan)]
        return []

    @property
    def reads_data_anew(self) -> bool:
        """Whether the manifest does not hold what was understood of the data."""
        return self.has_other_data or "data" not in self.directory.read_manifest().entries

    def discard_later(self, gan: GAN, data: Mapping[str, object]) -> None:
        """Remove what was logged or evaluated after the checkpoint, note the resume in the manifest, write the config.

        `data` is what was understood of the data if it was read anew. Raises StorageError when something cannot be
        written.
        """
        self._write(self.config, gan, data)
        truncate_log(self.directory.metrics, self.step, self.state.lines if self.state else 0)
        self.directory.discard_evaluation(self.step)

    def write_changes(self, gan: GAN, data: Mapping[str, object]) -> bool:
        """Write what has changed in the config of a finished run, except its total; return whether anything has.

        A damaged manifest is written again.
        """
        config = self.config.model_copy(update={"duration": self.written.duration})
        has_changed = config != self.written
        if has_changed or self.directory.read_manifest().problem or self.directory.has_blank_config:
            self._write(config, gan, data)
        return has_changed

    @property
    def _unwritten(self) -> list[Change]:
        return changes(self.written.to_data(self.catalog), self.config.to_data(self.catalog))

    def _write(self, config: RunConfig, gan: GAN, data: Mapping[str, object]) -> None:
        # The config first: if the process is killed between both, the next resume finds and notes the same changes.
        self.directory.write_config(config, self.catalog)
        settings = {change.key: change.recorded() for change in self.changes}
        other = data if self.has_other_data else {}
        resumed = Resumed(self.step, settings, other, self._restored(gan, data))
        self.directory.note_resume(resumed, config, self.catalog, gan)

    def _restored(self, gan: GAN, data: Mapping[str, object]) -> Mapping[str, Any]:  # Any: JSON
        """Return what a damaged manifest held, as far as the checkpoint has it."""
        about = self.checkpoint.about if self.checkpoint else {}
        facts = about.get("made_with") or describe(self.config, self.catalog, gan.device, gan.ranks.size)
        origin = about.get("origin")
        known = {"recipe": None, "init_from": None, **(origin if isinstance(origin, dict) else {}), **facts}
        return sound({**known, "data": dict(data)}, str(self.directory.checkpoints)).entries

    def _inexact(self, gan: GAN, about: Mapping[str, Any]) -> Iterator[str]:  # Any: JSON
        before, now = _DEFAULTS | about["made_with"], describe(self.config, self.catalog, gan.device, gan.ranks.size)
        changed = [f"{key} was {before.get(key)}, now {now[key]}" for key in _EXACT if before.get(key) != now[key]]
        changed += [str(change) for change in self.changes if not change.is_exact]
        if changed:
            yield f"resuming is not bit-exact: {'; '.join(changed)}"
        if about.get("data", gan.feed.fingerprint) != gan.feed.fingerprint:
            yield "the training data has changed since the checkpoint: resuming is not bit-exact"


def find(
    directory: RunDirectory,
    catalog: Catalog,
    duration: str | None = None,
    wanted: RunConfig | None = None,
    settings: Sequence[ConfigLayer] = (),
    data: Path | str | None = None,
) -> Resumable:
    """Return the run in a folder, with another total if `duration` is given, other `settings`, and data at a new path.

    Raises StorageError when a folder is in the place of a file that the run writes, before it trains; CheckpointError
    when there is no run, no valid checkpoint of a run that has trained, or when the config
    differs from `wanted`, or from that of the checkpoint in a key that a run cannot change; PluginError when a plugin
    that the run needs is missing; ConfigError when the run needs Python objects that were not passed, or `settings` are
    wrong or change such a key; DataError when no dataset reads `data`.
    """
    installed = catalog
    directory.check_exists()
    layers = directory.layers(catalog)
    for layer in layers:
        check_objects(layer.data, catalog, str(directory.path))
    found = newest_valid(directory.checkpoints)
    warnings = list(found.warnings)
    saved = found.checkpoint
    best = best_of(directory.checkpoints)
    damage = verify(best).problem if os.path.lexists(best) else None
    if damage:
        warnings.append(
            f"the best checkpoint is not valid: {damage}; the next evaluation is compared with no earlier one"
        )
    if directory.has_blank_config:
        warnings.append(f"{directory.config} is blank; the config of the newest checkpoint is used, and written again")
    if problem := directory.read_manifest().problem:
        warnings.append(f"{problem}; it is written again")
    log = read_log(directory.metrics)
    if log.damaged:
        warnings.append(describe_damage(directory.metrics, log.damaged))
    if saved is None and (found.rejected or log or log.damaged):
        reasons = "; ".join(reason for _, reason in found.rejected) or "its checkpoints are gone"
        raise CheckpointError(
            f"there is no valid checkpoint in {directory.path}: {reasons}",
            "name another run; gancore never starts this one again from step 0",
        )
    directory.check_writable(int(saved.about["progress"]["step"]) if saved else -1)
    if saved is not None:
        catalog, others = catalog_for(saved.about["made_with"], catalog, str(directory.path))
        warnings += others
    total = [] if duration is None else [ConfigLayer("total", {"duration": duration})]
    try:
        written, config = resolve(layers, catalog), resolve([*layers, *total, *settings], catalog)
    except (ConfigError, PluginError):  # a setting may name a plugin that the run has not used before
        with directory.repairing():
            written = resolve(layers, installed)
        config, catalog = resolve([*layers, *total, *settings], installed), installed
    if data is not None:
        shape = tuple(saved.about["data_format"]["shape"]) if saved else None
        dataset = moved(config.dataset, data, installed, shape)
        if type(dataset) is not type(config.dataset):
            catalog = installed
        config = config.model_copy(update={"dataset": dataset})
    config = with_absolute_paths(config)
    _check_settings(directory.path, written.to_data(catalog), config.to_data(catalog))
    changed: list[Change] = []
    if saved is not None:
        before = resolve([ConfigLayer("checkpoint", saved.about["config"])], catalog).to_data(catalog)
        now = config.to_data(catalog)
        changed = changes(before, now)
        if wrong := refused(changed, before, now):
            raise CheckpointError(
                f"{directory.config} is not the config of the checkpoint: {_listed(wrong)}",
                f"undo the change, or start a new run from its weights: {command_of_new_run(directory.path)}",
            )
    other = changes(config.to_data(installed), wanted.to_data(installed)) if wanted else []
    if wanted and (other := [change for change in other if not change.asks_to_choose]):
        hint = "name another folder with --out"
        if not refused(other, config.to_data(installed), wanted.to_data(installed)):
            options = " ".join(change.assignment for change in other)
            hint = f"change the run: gancore resume {shell_quote(directory.path)} {options}; or {hint}"
        raise CheckpointError(f"the run in {directory.path} has another config: {_listed(other)}", hint)
    damaged = tuple(path for path, _ in found.rejected)
    return Resumable(
        directory, config, written, tuple(changed), saved, catalog, tuple(warnings), found.path, damaged, bool(damage)
    )


def _check_settings(run: Path, written: Mapping[str, Any], config: Mapping[str, Any]) -> None:  # Any: data of a file
    """Raise ConfigError for settings that a run cannot change, with what to do instead."""
    asked = changes(written, config)
    if wrong := refused(asked, written, config):
        command = command_of_new_run(run, with_removed_tables(asked, config))
        raise ConfigError(
            f"a run cannot change this when it is resumed: {_listed(wrong)}",
            f"start a new run{' from its weights' if '--init-from' in command else ''}: {command}",
        )


def _listed(found: Sequence[Change]) -> str:
    return "; ".join(map(str, found))


def run_exists(directory: RunDirectory, ranks: Ranks) -> bool:
    """Return whether rank 0 has a run in this folder. All ranks must call this.

    Raises CheckpointError when its config is not a file, and when only another rank has a run: ranks may be numbered
    differently after a restart.
    """
    here = directory.config.is_file()
    if ranks.is_main and os.path.lexists(directory.config):
        directory.check_exists()
    anywhere, at_main = bool(ranks.all_reduce_max([here])[0]), ranks.broadcast(here)
    if anywhere and not at_main:
        raise CheckpointError(
            f"the run in {directory.path} is on another machine than process 0",
            "keep it on shared storage, or number the machines with torchrun --node-rank",
        )
    return at_main


def broadcast_run(found: Resumable | None, catalog: Catalog, ranks: Ranks) -> tuple[RunConfig, Catalog, TrainedOn]:
    """Return the config that rank 0 has found, the plugins that the run needs, and the data that it was trained on.

    Other ranks need no folder. Raises PluginError when a plugin that the run needs is missing.
    """
    if found is not None:
        needs, on = needs_of(found.config, found.catalog), found.trained_on
        ranks.broadcast({"config": found.config.to_data(found.catalog), "needs": needs, "trained_on": vars(on)})
        return found.config, found.catalog, on
    data = ranks.broadcast(dict[str, Any]())  # Any: JSON
    catalog, _ = catalog_for({"needs": data["needs"]}, catalog, "the run")
    return resolve([ConfigLayer("the run", data["config"])], catalog), catalog, TrainedOn(**data["trained_on"])
