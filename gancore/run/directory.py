"""The folder of a run, and what is in it.

config.toml      the resolved config; training from it again gives the same weights
manifest.json    versions of gancore and torch, the plugins the run needs, the git commit, the machine and the data
metrics.jsonl    one flat object every `log.every_steps` steps, and one per evaluation
evaluation.json  the newest evaluation with all details, in a run with metrics, or that of `gancore evaluate --save`
samples/         pictures drawn from the same noise during training, and a contact sheet of the data
report.html      a page about the run, in a run with `report.every_kimg`
checkpoints/     the newest `checkpoint.keep` checkpoints, and the best one by `checkpoint.best`
explore/         favorites, and latents that they need, written by `gancore explore`
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.manifest import MANIFEST, Manifest, read_manifest
from gancore.config.layers import ConfigLayer
from gancore.config.requirements import needs_of
from gancore.config.run import RunConfig, read_layers
from gancore.errors import CheckpointError, ConfigError
from gancore.evaluation.evaluator import Evaluation
from gancore.observers import LOG
from gancore.run.lock import LOCK, locked, missing_folders, remove_empty
from gancore.training.gan import GAN
from gancore.utils.atomic import atomic_write, is_temporary_file, remove_temporary_files, writing
from gancore.utils.files import regular
from gancore.utils.json import json_safe
from gancore.utils.paths import name_a_run, shell_quote

_RUN_FILES = r"config\.toml|manifest\.json|evaluation\.json|metrics\.jsonl|report\.html"
REAL = "real.png"
"""File name of the contact sheet of the data, in the folder of samples."""
_PICTURE = rf"step-\d+\.(?:png|npy)|{re.escape(REAL)}"
_MOST_RESUMES = _MOST_EVENTS = 1000
"""Number of the newest resumes, and of the newest events, that a manifest lists."""


@dataclass(frozen=True)
class Resumed:
    """What the manifest notes of a resume from the checkpoint of a step.

    `settings` are the keys of the config that have changed since the checkpoint, with both values. `data` is what was
    understood of other data; empty if it is the same. `kept` are entries for those that a damaged manifest has lost.
    """

    step: int
    settings: Mapping[str, object]
    data: Mapping[str, object]
    kept: Mapping[str, object]


class RunDirectory:
    """The paths in the folder of a run. `made` are folders that were made for it, innermost first."""

    def __init__(self, path: Path, made: Sequence[Path] = ()) -> None:
        self.path, self._made = path, made
        self.config, self.manifest = path / "config.toml", path / MANIFEST
        self.metrics, self.evaluation = path / LOG, path / "evaluation.json"
        self.samples, self.checkpoints = path / "samples", path / "checkpoints"
        self.saved: Path | None = None
        """The newest checkpoint that this process has saved or resumed from; others may be newer, but damaged."""
        self.damaged: set[Path] = set()
        """Checkpoints that are newer than the one that was resumed from, and not valid."""

    def read_manifest(self) -> Manifest:
        """Return the entries of the manifest that are sound, and what is wrong with it."""
        return read_manifest(self.path)

    def layers(self, catalog: Catalog) -> list[ConfigLayer]:
        """Return the layers of the config of the run. If the file is blank, they are those of the newest checkpoint.

        Raises ConfigError when there is neither.
        """
        if self.has_blank_config and (saved := checkpoint.newest_valid(self.checkpoints).checkpoint):
            return [ConfigLayer("the newest checkpoint", saved.about["config"])]
        with self.repairing():
            return read_layers(str(self.config), catalog)

    @contextmanager
    def repairing(self) -> Iterator[None]:
        """Say in the hint of a ConfigError in this block how the config of the run can be restored."""
        try:
            yield
        except ConfigError as error:
            if checkpoint.kept(self.checkpoints):
                hint = f"correct {self.config}, or empty it to take the config of the newest checkpoint"
                raise ConfigError(error.message, hint) from error
            raise

    @property
    def has_blank_config(self) -> bool:
        """Whether the config file holds nothing, as after a power failure."""
        try:
            with regular(self.config) as file:
                return not file.read().strip(b"\x00 \t\r\n")
        except OSError:
            return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for this process in this block. Raises InUseError when another process has locked it.

        Folders that were made for it and are empty after the block are removed.
        """
        with writing(self.path):
            is_other = os.path.lexists(self.path) and not self.path.is_dir()
        if is_other:
            self.check_new()
        with locked(self.path, self._made):
            yield

    def check_exists(self) -> None:
        """Raise CheckpointError when there is no run in the folder, and say so when only its config is unusable."""
        if self.config.is_file():
            return
        problem, there = "is missing", os.path.lexists(self.config)
        if self.config.is_symlink() and not self.config.exists():
            problem = f"is a link to {self.config.readlink()}, which cannot be followed"
        elif there:
            problem = "is not a file"
        if there or checkpoint.kept(self.checkpoints):
            away = "move it away, and " if there else ""
            raise CheckpointError(
                f"the run in {self.path} has no config: {self.config} {problem}",
                f"{away}put an empty file there to take the config of the newest checkpoint",
            )
        raise CheckpointError(f"there is no run in {self.path}", name_a_run())

    def check_writable(self, step: int) -> None:
        """Raise StorageError when something is in the place of a file that is written after a step."""
        for path in (self.manifest, self.evaluation, self.metrics):
            if path.is_dir():
                checkpoint.check_replaceable(path)
        checkpoint.check_folder(self.checkpoints, step)

    def check_new(self) -> None:
        """Raise ConfigError when the folder holds anything but the leftovers of a start that failed."""
        problem, found = "is a file", set[str]()
        with writing(self.path):
            if self.path.is_symlink() and not self.path.exists():
                problem, found = f"is a link to {self.path.readlink()}, which does not exist", {self.path.name}
            if self.path.is_dir():
                problem, found = "is not empty", {item.name for item in self.path.iterdir()}
            elif self.path.exists():
                found = {self.path.name}
        allowed = {path.name for path in (self.samples, self.checkpoints) if path.is_dir() and not any(path.iterdir())}
        allowed |= {LOCK} if self.config.exists() else {LOCK, self.manifest.name}
        if any(name not in allowed and not is_temporary_file(name, _RUN_FILES) for name in found):
            resume = f", or resume the run: gancore resume {shell_quote(self.path)}" if self.config.is_file() else ""
            raise ConfigError(
                f"the folder of a run must be a new or empty folder; {self.path} {problem}",
                f"name another folder with --out{resume}",
            )

    def create(
        self,
        config: RunConfig,
        catalog: Catalog,
        device: torch.device,
        ranks: int = 1,
        data: Mapping[str, object] | None = None,
        **origin: object,
    ) -> None:
        """Create the folder and write the manifest and then the config, which makes the folder a run.

        `ranks` is the number of processes, `data` what was understood of the data. `origin` has further entries of the
        manifest: the name of the recipe, the digest of the checkpoint that the run begins from, and how the number of
        threads and the precision were chosen.
        Raises ConfigError when the folder is not empty, StorageError when it cannot be written; then nothing that was
        written stays.
        """
        self.check_new()
        folders = (self.path, self.samples, self.checkpoints)
        made = [path for path in (self.samples, self.checkpoints, *missing_folders(self.path)) if not path.exists()]
        try:
            with writing(self.path):
                for folder in folders:
                    folder.mkdir(parents=True, exist_ok=True)
            self._clear()
            self._write_manifest({**origin, **describe(config, catalog, device, ranks), "data": dict(data or {})})
            self.write_config(config, catalog)
        except BaseException:
            if not self.config.exists():  # otherwise it is a run
                with suppress(OSError):
                    self.manifest.unlink(missing_ok=True)
                remove_empty(made)
            raise

    def make_folders(self) -> None:
        """Make the folders of pictures and checkpoints again if they were deleted, but not that of the run itself."""
        for folder in (self.samples, self.checkpoints):
            with writing(folder):
                folder.mkdir(exist_ok=True)

    def write_config(self, config: RunConfig, catalog: Catalog) -> None:
        """Write the config. Raises StorageError when it cannot be written."""
        with atomic_write(self.config) as path:
            path.write_text(config.to_toml(catalog), encoding="utf-8")

    def note_resume(self, resume: Resumed, config: RunConfig, catalog: Catalog, gan: GAN) -> None:
        """Remove the temporary files of a killed process, and note in the manifest that the run is resumed.

        The contact sheet of other data is then drawn anew.
        """
        self.make_folders()
        self._clear()
        if resume.data:
            with writing(self.samples):
                (self.samples / REAL).unlink(missing_ok=True)
        manifest = {**resume.kept, **self.read_manifest().entries}
        facts = describe(config, catalog, gan.device, gan.ranks.size)
        changed = {key: value for key, value in facts.items() if manifest.get(key) != value}
        if resume.settings:
            changed["changed"] = resume.settings
        if gan.choice.was_tried:
            changed["chosen"] = asdict(gan.choice)
        resumed = [*manifest.get("resumed", []), {"step": resume.step, **changed}][-_MOST_RESUMES:]
        about = {"data": dict(resume.data)} if resume.data else {}
        self._write_manifest({**manifest, **about, "needs": facts["needs"], "resumed": resumed})

    def write_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Replace evaluation.json by an evaluation of the default samples at a step. The caller has the lock.

        Raises StorageError when it cannot be written.
        """
        document = json_safe({"step": step, **evaluation.to_data()})  # with what the log leaves out
        with atomic_write(self.evaluation) as path:
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def discard_evaluation(self, step: int) -> None:
        """Remove evaluation.json if it is of a step after this one, from which the run continues.

        One that cannot be read stays. Raises StorageError when it cannot be removed.
        """
        try:
            with regular(self.evaluation) as file:
                found = json.loads(file.read())
        except (OSError, ValueError, RecursionError):
            return
        evaluated = found.get("step") if isinstance(found, dict) else None
        if isinstance(evaluated, int) and evaluated > step:
            with writing(self.evaluation):
                self.evaluation.unlink(missing_ok=True)

    def note(self, facts: Mapping[str, object]) -> None:
        """Set entries of the manifest, unless it is damaged: a resume says so, and restores it."""
        manifest = self.read_manifest()
        if manifest.problem is None:
            self._write_manifest({**manifest.entries, **facts})

    def note_event(self, kind: str, step: int, kimg: float, text: str) -> None:
        """Add an event to the manifest, as `note` does: `kind` is `collapse` or `nonfinite`, `text` what to show of it.

        A resumed run repeats the events since its checkpoint, which are noted once.
        """
        listed = self.read_manifest().entries.get("events")
        events = listed if isinstance(listed, list) else []
        event = {"kind": kind, "step": step, "kimg": kimg, "text": text}
        if event not in events:
            self.note({"events": [*events, event][-_MOST_EVENTS:]})

    def _clear(self) -> None:
        remove_temporary_files(self.path, _RUN_FILES)
        remove_temporary_files(self.samples, _PICTURE)
        checkpoint.remove_temporary_files(self.checkpoints)

    def _write_manifest(self, manifest: Mapping[str, object]) -> None:
        with atomic_write(self.manifest) as path:
            path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def next_directory(parent: Path) -> RunDirectory:
    """Make and return the folder with the next number, from runs/0001; safe for runs that start at the same time.

    Raises StorageError when it cannot be made.
    """
    made = missing_folders(parent)
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            taken = [int(item.name) for item in parent.iterdir() if re.fullmatch(r"\d+", item.name)]
            path = parent / f"{max(taken, default=0) + 1:04d}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return RunDirectory(path, [path, *made])


def describe(config: RunConfig, catalog: Catalog, device: torch.device, ranks: int = 1) -> dict[str, Any]:  # Any: JSON
    """Return the software and hardware of a run, without names of people, hosts or folders.

    `ranks` is the number of processes.
    """
    plugins = [catalog.origin_of(type(component)) for component in config.components()]
    return {
        "gancore": version("gancore"),
        "torch": torch.__version__,
        "plugins": {plugin.package: plugin.version for plugin in plugins},
        "needs": needs_of(config, catalog),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads() if config.training.threads == "auto" else config.training.threads,
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
