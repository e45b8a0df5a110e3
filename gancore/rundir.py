"""A run directory: what a run leaves behind.

config.toml      the resolved config; training from it again gives the same weights
manifest.json    versions of gancore, torch and every plugin used, the git commit, and facts about the machine
metrics.jsonl    one flat object every `log.every_steps`
samples/         pictures from the same noise through time
checkpoints/     the newest `checkpoint.keep`
"""

from __future__ import annotations

import json
import math
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

import numpy as np
import torch

from gancore import checkpoint
from gancore.catalog import Catalog
from gancore.config import Run
from gancore.errors import ConfigError, StorageError
from gancore.gan import GAN
from gancore.pictures import grid, is_picture
from gancore.randomness import derive_seed
from gancore.sampling import draw
from gancore.training import Step

Metrics = dict[str, float]


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
        return self.path / "metrics.jsonl"

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
        with _writing(self.path):
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
    with _writing(parent):
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
def _writing(path: Path) -> Iterator[None]:
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


def record(
    steps: Iterator[Step], gan: GAN, run: Run, directory: RunDirectory, catalog: Catalog
) -> Iterator[tuple[Step, Metrics | None]]:
    """Writes log, samples and checkpoints while the steps go by, and hands each on with the metrics, if it had any.

    Whatever was due or not, the last step leaves all three. Raises StorageError when something cannot be written.
    """
    recorder = _Recorder(gan, run, directory, catalog)
    recorder.draw()
    recorder.save()
    for step in steps:
        last = step.done >= 1
        metrics = recorder.log(step) if last or step.step % run.log.every_steps == 0 else None
        if recorder.drawing_is_due() or last:
            recorder.draw()
        if step.step % run.checkpoint.every_steps == 0 or last:
            recorder.save()
        yield step, metrics


def finite(metrics: Metrics) -> dict[str, float | None]:
    """The same numbers for JSON, which has neither NaN nor infinity: they become null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


class _Recorder:
    def __init__(self, gan: GAN, run: Run, directory: RunDirectory, catalog: Catalog) -> None:
        self._gan, self._run, self._directory = gan, run, directory
        self._config = run.to_data(catalog)
        self._manifest = describe(run, catalog, gan.device)
        self._drawn = 0
        self._logged = (gan.progress.seconds, gan.progress.images_seen)

    def log(self, step: Step) -> Metrics:
        metrics = step.scalars()
        seconds, images = self._logged
        elapsed = max(step.seconds - seconds, 1e-9)
        metrics["images_per_second"] = round((step.images_seen - images) / elapsed, 1)
        self._logged = (step.seconds, step.images_seen)
        with _writing(self._directory.metrics), self._directory.metrics.open("a", encoding="utf-8") as log:
            log.write(json.dumps(finite(metrics), allow_nan=False) + "\n")
        return metrics

    def _intervals(self) -> int:
        return int(self._gan.progress.images_seen / (1000 * self._run.sample.every_kimg))

    def drawing_is_due(self) -> bool:
        return self._intervals() > self._drawn

    def draw(self) -> None:
        gan, run = self._gan, self._run
        samples = draw(
            gan.sampler(),
            run.sample.count,
            latent=run.latent,
            seed=derive_seed(run.seed, "samples"),
            device=gan.device,
            num_classes=gan.num_classes,
        )
        path = self._directory.samples / f"step-{gan.progress.step:08d}"
        with _writing(path):
            if is_picture(samples):
                grid(samples).save(path.with_suffix(".png"))
            else:
                np.save(path.with_suffix(".npy"), samples.numpy(), allow_pickle=False)
        self._drawn = self._intervals()

    def save(self) -> None:
        gan = self._gan
        about = {
            "config": self._config,
            "shape": list(gan.feed.shape),
            "num_classes": gan.num_classes,
            "progress": gan.place(),
            "made_with": self._manifest,
        }
        checkpoint.save(checkpoint.path_of(self._directory.checkpoints, gan.progress.step), gan.tensors(), about)
        checkpoint.prune(self._directory.checkpoints, self._run.checkpoint.keep)
