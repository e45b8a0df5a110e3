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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gancore.catalog import Catalog
from gancore.config import Run
from gancore.errors import ConfigError, StorageError
from gancore.observers import LOG
from gancore.provenance import needs_of


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

    def create(self, run: Run, catalog: Catalog, device: torch.device, **origin: str | None) -> None:
        """Makes the folder and writes what is known before the first step.

        `origin` is whatever else tells where the run comes from, for its manifest: the name of a recipe, the digest of
        the checkpoint that it began from.

        Raises ConfigError when something is there already, StorageError when it cannot be written.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise ConfigError(f"--out must be a new or empty folder; {self.path} is not empty", "name another one")
            self.samples.mkdir()
            self.checkpoints.mkdir()
            self.config.write_text(run.to_toml(catalog), encoding="utf-8")
            manifest = json.dumps({**origin, **describe(run, catalog, device)}, indent=2)
            self.manifest.write_text(manifest + "\n", encoding="utf-8")


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


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong in this block went wrong while writing to the path."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write to {path}: {error.strerror}", "free some space, or choose another --out"
        ) from error


def describe(run: Run, catalog: Catalog, device: torch.device) -> dict[str, Any]:  # Any: JSON
    """With what a run was made: enough to tell two runs apart, without names of people, hosts or folders."""
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
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _git_commit() -> str | None:
    try:
        command = ["git", "rev-parse", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603  # constant
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
