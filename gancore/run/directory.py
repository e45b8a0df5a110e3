"""A run directory: what a run leaves behind.

config.toml      the resolved config; training from it again gives the same weights
manifest.json    versions of gancore and torch, every plugin that is needed, the git commit, and facts about the machine
metrics.jsonl    one flat object every `log.every_steps`, and one for every evaluation
evaluation.json  the newest evaluation with everything, in a run that has metrics
samples/         pictures from the same noise through time
checkpoints/     the newest `checkpoint.keep`, and the best by `checkpoint.best`
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.config.requirements import needs_of
from gancore.config.run import RunConfig
from gancore.errors import ConfigError
from gancore.observers import LOG
from gancore.run.lock import LOCK, locked
from gancore.utils.atomic import atomic_write, is_temporary_file, remove_temporary_files, writing

_OURS = r"config\.toml|manifest\.json|evaluation\.json|metrics\.jsonl"
_PICTURE = r"step-\d+\.(?:png|npy)"


@dataclass(frozen=True)
class RunDirectory:
    """Where one run is kept."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def origin(self) -> str | None:
        """The digest of the checkpoint that the run began from, as the manifest has it, if it did and there is one."""
        with suppress(OSError, ValueError):
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
            origin = manifest.get("init_from") if isinstance(manifest, dict) else None
            return origin if isinstance(origin, str) else None
        return None

    @property
    def metrics(self) -> Path:
        return self.path / LOG

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder is this process's in this block. Raises InUseError when it is another's."""
        with writing(self.path):
            a_file = self.path.exists() and not self.path.is_dir()
        if a_file:
            self.check_new()
        with locked(self.path):
            yield

    def check_new(self) -> None:
        """Raises ConfigError when something is in the folder, but for what a start leaves that came to nothing."""
        strange = {name for name in self._content() if name != LOCK and not is_temporary_file(name, _OURS)}
        strange -= {self.manifest.name} if not self.config.exists() else set()
        empty = {each.name for each in (self.samples, self.checkpoints) if each.is_dir() and not any(each.iterdir())}
        if strange - empty:
            what = "is not empty" if self.path.is_dir() else "is a file"
            raise ConfigError(
                f"--out must be a new or empty folder; {self.path} {what}",
                f"name another one, or go on with: gancore resume {self.path}"
                if self.config.is_file()
                else "name another folder with --out",
            )

    def _content(self) -> set[str]:
        with writing(self.path):
            if self.path.is_dir():
                return {item.name for item in self.path.iterdir()}
            return {self.path.name} if self.path.exists() else set()

    def create(
        self, run: RunConfig, catalog: Catalog, device: torch.device, ranks: int = 1, **origin: str | None
    ) -> None:
        """Makes the folder and writes what is known before the first step; the config last: with it, a run is there.

        `origin` is whatever else tells where the run comes from, for its manifest: the name of a recipe, the digest of
        the checkpoint that it began from.

        Raises ConfigError when something is there already, StorageError when it cannot be written.
        """
        self.check_new()
        with writing(self.path):
            for folder in (self.path, self.samples, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        self._tell({**origin, **describe(run, catalog, device, ranks)})
        self.write_config(run, catalog)

    def write_config(self, run: RunConfig, catalog: Catalog) -> None:
        """Raises StorageError when it cannot be written."""
        with atomic_write(self.config) as path:
            path.write_text(run.to_toml(catalog), encoding="utf-8")

    def go_on(self, step: int, run: RunConfig, catalog: Catalog, device: torch.device, ranks: int = 1) -> None:
        """Removes what a process that was killed has left behind, and notes in the manifest that the run goes on."""
        self._clear()
        with suppress(OSError, ValueError):
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
            known = describe(run, catalog, device, ranks)
            changed = {key: value for key, value in known.items() if manifest.get(key) != value}
            self._tell({**manifest, "resumed": [*manifest.get("resumed", []), {"step": step, **changed}]})

    def _clear(self) -> None:
        remove_temporary_files(self.path, _OURS)
        remove_temporary_files(self.samples, _PICTURE)
        checkpoint.remove_temporary_files(self.checkpoints)

    def _tell(self, manifest: Mapping[str, object]) -> None:
        with atomic_write(self.manifest) as path:
            path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def next_directory(parent: Path) -> RunDirectory:
    """A new folder with the next number: runs/0001 is the first. Two runs that start at once get two.

    Raises StorageError when it cannot be made.
    """
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            taken = [int(item.name) for item in parent.iterdir() if re.fullmatch(r"\d+", item.name)]
            path = parent / f"{max(taken, default=0) + 1:04d}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return RunDirectory(path)


def describe(run: RunConfig, catalog: Catalog, device: torch.device, ranks: int = 1) -> dict[str, Any]:  # Any: JSON
    """With what a run was made: enough to tell two runs apart, without names of people, hosts or folders.

    `ranks` is the number of processes that train.
    """
    plugins = [catalog.origin_of(type(component)) for component in run.components()]
    return {
        "gancore": version("gancore"),
        "torch": torch.__version__,
        "plugins": {plugin.package: plugin.version for plugin in plugins},
        "needs": needs_of(run, catalog),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": ranks,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _git_commit() -> str | None:
    try:
        command = ["git", "rev-parse", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603  # constant
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
