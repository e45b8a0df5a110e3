"""Resuming a run from its newest valid checkpoint, exactly as if it had not been interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gancore.catalog.catalog import Catalog
from gancore.checkpoint.store import Checkpoint, load, newest, newest_valid
from gancore.config.layers import ConfigLayer
from gancore.config.objects import check_objects
from gancore.config.requirements import catalog_for
from gancore.config.run import RunConfig, read_layers, resolve
from gancore.distributed.ranks import Ranks
from gancore.errors import CheckpointError
from gancore.run.directory import RunDirectory, describe
from gancore.run.log import RecorderState, recorder_state, truncate_log
from gancore.training.gan import GAN

_EXACT = ("gancore", "torch", "machine", "device", "threads", "ranks")
"""Facts that must not have changed for an exact resume."""
_DEFAULTS = {"ranks": 1}
"""Their values where a checkpoint does not give them."""


@dataclass(frozen=True)
class Resumable:
    """A run that can be resumed: its config, and its newest valid checkpoint, None if it ended before the first.

    `catalog` holds the plugins that the run needs; `warnings` say what has changed.
    """

    directory: RunDirectory
    config: RunConfig
    checkpoint: Checkpoint | None
    catalog: Catalog
    warnings: tuple[str, ...]

    @property
    def step(self) -> int:
        """The step of the checkpoint; 0 without one."""
        return int(self.checkpoint.about["progress"]["step"]) if self.checkpoint else 0

    @property
    def state(self) -> RecorderState | None:
        """The recorder's state at the checkpoint. Raises CheckpointError when the checkpoint does not hold it."""
        return None if self.checkpoint is None else recorder_state(self.checkpoint.about, self.directory.path)

    def restore(self, gan: GAN, init_from: Path | None = None) -> list[str]:
        """Give the GAN the state of the checkpoint; return warnings about what has changed.

        A run without a checkpoint takes its first weights from `init_from` again, if it began from a checkpoint.
        Raises CheckpointError when the state is not of this run, or `init_from` is not what the run began from.
        """
        if self.checkpoint is not None:
            gan.restore(self.checkpoint.tensors, self.checkpoint.about["progress"])
            return list(self._changes(gan, self.checkpoint.about))
        origin = load(newest(init_from)) if init_from else None
        digest = self.directory.origin
        if digest != (origin and origin.digest):
            raise CheckpointError(
                f"the run in {self.directory.path} has no checkpoint yet, and was to begin from "
                + (f"the weights of a checkpoint of digest {digest[:12]}" if digest else "weights of its own"),
                "repeat the command that started it, with: gancore train --init-from CHECKPOINT --resume",
            )
        if origin:
            gan.state.init_weights(origin.tensors)
        return []

    def discard_later(self, gan: GAN) -> None:
        """Remove what was logged after the checkpoint, note the resume in the manifest, and write the config.

        Raises StorageError when something cannot be written.
        """
        self.directory.note_resume(self.step, self.config, self.catalog, gan)
        truncate_log(self.directory.metrics, self.step, self.state.lines if self.state else 0)
        self.directory.write_config(self.config, self.catalog)

    def _changes(self, gan: GAN, about: Mapping[str, Any]) -> Iterator[str]:  # Any: JSON
        before, now = _DEFAULTS | about["made_with"], describe(self.config, self.catalog, gan.device, gan.ranks.size)
        changed = [f"{key} was {before.get(key)}, now {now[key]}" for key in _EXACT if before.get(key) != now[key]]
        if changed:
            yield f"resuming is not bit-exact: {'; '.join(changed)}"
        if about.get("data", gan.feed.fingerprint) != gan.feed.fingerprint:
            yield "the training data has changed since the checkpoint: resuming is not bit-exact"


def find(
    directory: RunDirectory, catalog: Catalog, duration: str | None = None, wanted: RunConfig | None = None
) -> Resumable:
    """Return the run in a folder, with another total if `duration` is given.

    Raises CheckpointError when there is no run, no valid checkpoint of a run that has trained, or when the config
    differs from that of the checkpoint or from `wanted`; PluginError when a plugin that the run needs is missing;
    ConfigError when the run needs Python objects that were not passed.
    """
    installed = catalog
    if not directory.config.is_file():
        raise CheckpointError(f"there is no run in {directory.path}", "name the folder of a run, like runs/0001")
    layers = read_layers(str(directory.config), catalog)
    for layer in layers:
        check_objects(layer.data, catalog, str(directory.path))
    found = newest_valid(directory.checkpoints)
    warnings = [reason for _, reason in found.rejected]
    saved = found.checkpoint
    if saved is None and (warnings or (directory.metrics.exists() and directory.metrics.stat().st_size > 0)):
        reasons = "; ".join(warnings) or "its checkpoints are gone"
        raise CheckpointError(
            f"there is no valid checkpoint in {directory.path}: {reasons}",
            "name another run; gancore never starts this one again from step 0",
        )
    if saved is not None:
        catalog, others = catalog_for(saved.about["made_with"], catalog, str(directory.path))
        warnings += others
    if duration is not None:
        layers.append(ConfigLayer("total", {"duration": duration}))
    config = resolve(layers, catalog)
    if saved is not None:
        before = resolve([ConfigLayer("checkpoint", saved.about["config"])], catalog)
        if changes := differences(before.to_data(catalog), config.to_data(catalog)):
            raise CheckpointError(
                f"{directory.config} is not the config of the checkpoint: {'; '.join(changes)}",
                "undo the change, or start a new run from its weights: gancore train --init-from",
            )
    if wanted and (changes := differences(config.to_data(installed), wanted.to_data(installed))):
        raise CheckpointError(
            f"the run in {directory.path} has another config: {'; '.join(changes)}", "name another folder with --out"
        )
    return Resumable(directory, config, saved, catalog, tuple(warnings))


def run_exists(directory: RunDirectory, ranks: Ranks) -> bool:
    """Return whether rank 0 has a run in this folder. All ranks must call this.

    Raises CheckpointError when only another rank has one: ranks may be numbered differently after a restart.
    """
    here = directory.config.is_file()
    anywhere, at_main = bool(ranks.all_reduce_max([here])[0]), ranks.broadcast(here)
    if anywhere and not at_main:
        raise CheckpointError(
            f"the run in {directory.path} is on another machine than process 0",
            "keep it on shared storage, or number the machines with torchrun --node-rank",
        )
    return at_main


def broadcast_run(found: Resumable | None, catalog: Catalog, ranks: Ranks) -> tuple[RunConfig, Catalog]:
    """Return the config that rank 0 has found, and the plugins that the run needs; other ranks need no folder.

    Raises PluginError when a plugin that the run needs is missing.
    """
    if found is not None:
        made_with = found.checkpoint.about["made_with"] if found.checkpoint else {}
        ranks.broadcast({"config": found.config.to_data(found.catalog), "made_with": made_with})
        return found.config, found.catalog
    data = ranks.broadcast(dict[str, Any]())  # Any: JSON
    catalog, _ = catalog_for(data["made_with"], catalog, "the run")
    return resolve([ConfigLayer("the run", data["config"])], catalog), catalog


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:  # Any: data of a file
    """Return how two configs differ in more than their totals, each as `latent.dim was 64, now 128`."""
    old, new = (_flat({key: value for key, value in data.items() if key != "duration"}) for data in (before, now))
    return [
        f"{key} was {old.get(key, 'absent')}, now {new.get(key, 'absent')}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
