"""Going on with a run where its newest sound checkpoint is, as if nothing had happened in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gancore.catalog.catalog import Catalog
from gancore.checkpoint.store import Checkpoint, newest_valid
from gancore.config.layers import ConfigLayer
from gancore.config.requirements import catalog_for
from gancore.config.run import RunConfig, read_layers, resolve
from gancore.distributed.ranks import Ranks
from gancore.errors import CheckpointError
from gancore.run.directory import RunDirectory, describe
from gancore.run.log import Recorded, forget_after, recorded_in
from gancore.training.gan import GAN

_EXACT = ("gancore", "torch", "machine", "device", "threads", "ranks")
"""What must be as it was for a run to go on bit by bit."""
_BEFORE = {"ranks": 1}
"""What it was where a checkpoint does not say."""


@dataclass(frozen=True)
class Resumable:
    """A run that can go on: its config and its newest sound state, None where it was ended before there was one.

    `catalog` holds the plugins that it was made with; `warnings` tell what is not as it was.
    """

    directory: RunDirectory
    run: RunConfig
    saved: Checkpoint | None
    catalog: Catalog
    warnings: tuple[str, ...]

    @property
    def step(self) -> int:
        """That of the state."""
        return int(self.saved.about["progress"]["step"]) if self.saved else 0

    @property
    def recorded(self) -> Recorded | None:
        """How far the writing was. Raises CheckpointError when the checkpoint does not say."""
        return None if self.saved is None else recorded_in(self.saved.about, self.directory.path)

    def restore(self, gan: GAN, origin: Checkpoint | None = None) -> tuple[str, ...]:
        """Gives the GAN its state; returns what is not as it was.

        A run that was ended before it had one takes its first weights from its `origin` once more, if it had one.
        Raises CheckpointError when the state is not of this run, or its origin is not what it is to begin from.
        """
        if self.saved is None:
            digest = self.directory.origin
            if digest != (origin and origin.digest):
                raise CheckpointError(
                    f"the run in {self.directory.path} has no checkpoint yet, and was to begin from "
                    + (f"the weights of a checkpoint of digest {digest[:12]}" if digest else "weights of its own"),
                    "gancore train --init-from CHECKPOINT --resume, with all that it was begun with",
                )
            if origin is not None:
                gan.state.init_weights(origin.tensors)
            return ()
        gan.restore(self.saved.tensors, self.saved.about["progress"])
        return tuple(self._changes(gan, self.saved.about))

    def forget(self, gan: GAN) -> None:
        """Forgets what was written after the state. Raises StorageError when something cannot be written."""
        recorded = self.recorded
        self.directory.go_on(self.step, self.run, self.catalog, gan.device, gan.ranks.size)
        forget_after(self.directory.metrics, self.step, recorded.lines if recorded else 0)

    def _changes(self, gan: GAN, about: Mapping[str, Any]) -> Iterator[str]:  # Any: JSON
        made_with, now = _BEFORE | about["made_with"], describe(self.run, self.catalog, gan.device, gan.ranks.size)
        changed = [
            f"{key} {made_with.get(key)} then, {now[key]} now" for key in _EXACT if made_with.get(key) != now[key]
        ]
        if changed:
            yield f"resuming is not bit-exact: {'; '.join(changed)}"
        if about.get("data", gan.feed.fingerprint) != gan.feed.fingerprint:
            yield "the data is not what the run has seen so far: resuming is not bit-exact"


def find(directory: RunDirectory, catalog: Catalog, duration: str | None = None) -> Resumable:
    """The run of a folder, with another total if one is given.

    Raises CheckpointError when there is no run, or no sound checkpoint where there was one, or the config beside the
    checkpoints is another; PluginError when a plugin that it needs is not there.
    """
    if not directory.config.is_file():
        raise CheckpointError(f"there is no run in {directory.path}", "name the folder of a run, like runs/0001")
    found = newest_valid(directory.checkpoints)
    warnings = [reason for _, reason in found.rejected]
    saved = found.checkpoint
    if saved is None and (found.rejected or _has_stepped(directory)):
        rejected = "; ".join(warnings) or "its checkpoints are gone"
        raise CheckpointError(
            f"there is no sound checkpoint in {directory.path}: {rejected}",
            "name another run; gancore never starts this one over by itself",
        )
    if saved is not None:
        catalog, others = catalog_for(saved.about["made_with"], catalog, str(directory.path))
        warnings += others
    written = read_layers(str(directory.config), catalog)
    total = [] if duration is None else [ConfigLayer("total", {"duration": duration})]
    run = resolve([*written, *total], catalog)
    if saved is not None:
        _check_same(run, saved, catalog, directory)
    return Resumable(directory, run, saved, catalog, tuple(warnings))


def is_there(directory: RunDirectory, ranks: Ranks) -> bool:
    """Whether rank 0 has a run to go on with in a folder; asked of all ranks.

    Raises CheckpointError when another rank alone has one: ranks may be numbered anew when they are started again.
    """
    here = directory.config.is_file()
    anywhere, at_first = bool(ranks.all_reduce_max([here])[0]), ranks.broadcast(here)
    if anywhere and not at_first:
        raise CheckpointError(
            f"the run in {directory.path} is on another machine than process 0",
            "keep it on storage that all share, or number the machines with torchrun --node-rank",
        )
    return at_first


def told_to_all(found: Resumable | None, catalog: Catalog, ranks: Ranks) -> tuple[RunConfig, Catalog]:
    """The run that rank 0 has found, and the plugins that it is made of: the others need not see its folder.

    Raises PluginError when a plugin that it needs is not there.
    """
    said: dict[str, Any] = {}  # Any: JSON
    if found is not None and ranks.is_distributed:
        made_with = {} if found.saved is None else found.saved.about["made_with"]
        said = {"config": found.run.to_data(found.catalog), "made_with": made_with}
    said = ranks.broadcast(said)
    if found is not None:
        return found.run, found.catalog
    catalog, _ = catalog_for(said["made_with"], catalog, "the run")
    return resolve([ConfigLayer("the run", said["config"])], catalog), catalog


def check_wanted(wanted: RunConfig, found: Resumable, catalog: Catalog) -> None:
    """Raises CheckpointError when the run that was found is not the one that is wanted, whatever their totals."""
    told = differences(found.run.to_data(catalog), wanted.to_data(catalog))
    if told:
        raise CheckpointError(
            f"the run in {found.directory.path} is another one: {'; '.join(told)}", "name another folder with --out"
        )


def _has_stepped(directory: RunDirectory) -> bool:
    return directory.metrics.exists() and directory.metrics.stat().st_size > 0


def _check_same(run: RunConfig, saved: Checkpoint, catalog: Catalog, directory: RunDirectory) -> None:
    """Only the total may be another."""
    before = resolve([ConfigLayer("checkpoint", saved.about["config"])], catalog)
    told = differences(before.to_data(catalog), run.to_data(catalog))
    if told:
        raise CheckpointError(
            f"{directory.config} is not what the run was trained with: {'; '.join(told)}",
            "put it back, or begin anew from its weights with: gancore train --init-from",
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:  # Any: data of a file
    """How two configs differ, but for their totals, as `latent.dim was 64, now 128`."""
    flat = [_flat({key: value for key, value in each.items() if key != "duration"}) for each in (before, now)]
    return [
        f"{key} was {flat[0].get(key, 'absent')}, now {flat[1].get(key, 'absent')}"
        for key in dict.fromkeys([*flat[0], *flat[1]])
        if flat[0].get(key) != flat[1].get(key)
    ]


def _flat(data: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat
