"""The state of a run at a glance: how far, who trains it, what is wrong, and what can be done next.

Read from the files of its folder; nothing is changed, and no plugin is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gancore.checkpoint import store as checkpoint
from gancore.config.objects import KINDS, is_object
from gancore.errors import StorageError
from gancore.report.collect import CONFIG, collect
from gancore.report.summary import RunSummary
from gancore.run.lock import holder_of
from gancore.sampling.write import default_name
from gancore.utils.paths import shell_quote

_LISTED = 4
"""Number of the newest events that are listed."""
State = Literal["training", "finished", "interrupted", "not begun"]


@dataclass(frozen=True)
class RunStatus:
    """The state of a run. `holder` is the process that trains it now, as `process 123`, None without one.

    `checkpoint` is the newest valid checkpoint, from which the run is resumed or sampled, `saved` its step,
    `best` the best checkpoint if it is valid. `size` is that of all files in bytes, `shape` that of a sample, None if
    it is not known. `warnings` says what is damaged or unusual.
    """

    run: RunSummary
    holder: str | None
    checkpoint: Path | None
    saved: int
    best: Path | None
    size: int
    warnings: tuple[str, ...]
    shape: tuple[int, ...] | None

    @property
    def state(self) -> State:
        """Whether the run is being trained, has reached its total, or ended before it."""
        if self.holder:
            return "training"
        if self.run.done is not None and self.run.done >= 1 and self.saved >= self.run.step:
            return "finished"
        return "interrupted" if self.run.step else "not begun"

    @property
    def seconds_left(self) -> float | None:
        """The time left at the average speed so far, None if it is not known."""
        done = self.run.done
        return self.run.seconds * (1 - done) / done if done and done < 1 else None

    @property
    def next(self) -> list[str]:
        """Commands that can be run now, the most likely one first. A run with parts from Python has none."""
        path, shape = shell_quote(self.run.path), self.shape
        if self.python_parts:
            return []
        commands = []
        if self.state in ("interrupted", "not begun"):
            is_lost = self.run.step and not self.checkpoint
            commands.append(
                f"gancore train {shell_quote(self.run.path / CONFIG)}" if is_lost else f"gancore resume {path}"
            )
        if self.checkpoint and shape:
            commands.append(f"gancore sample {path} -n 64 --out {default_name(shape)}")
        commands += [f"gancore report {path}"] if self.run.step else []
        if self.state == "finished":
            if not self.run.scores:
                commands.append(f"gancore evaluate {path} --save")
            commands.append(f"gancore resume {path} {self.run.longer()}")
        return commands

    @property
    def python_parts(self) -> list[str]:
        """The parts that were passed as objects, and must be passed to `gancore.open` again."""
        return [part for part in KINDS if is_object(self.run.config.get(part))]


def status_of(path: Path | str) -> RunStatus:
    """Return the state of the run in a folder. Reads all of its newest and its best checkpoint.

    Raises CheckpointError when there is no run.
    """
    run = collect(path)
    folder, warnings = run.path / "checkpoints", [*run.notes]
    try:
        found = checkpoint.newest_valid(folder)
    except StorageError:  # which is among the notes of the run
        found = checkpoint.Found(None, None)
    warnings += [reason for _, reason in found.rejected if reason not in warnings]
    best = checkpoint.best_of(folder)
    problem = checkpoint.verify(best).problem if os.path.lexists(best) else None
    warnings += [f"the best checkpoint is not valid: {problem}"] if problem else []
    about: Mapping[str, Any] = found.checkpoint.about if found.checkpoint else {}  # Any: JSON
    has_events = any(event.kind == "nonfinite" for event in run.events)
    if (count := about.get("progress", {}).get("nonfinite")) and not has_events:
        times = "once" if count == 1 else f"{count:,} times"
        warnings.append(f"numbers were not finite {times}; see training.on_nonfinite and training.nonfinite_limit")
    if earlier := len(run.events[:-_LISTED]):
        warnings.append(f"{earlier:,} earlier events that are not listed: collapses, or numbers that were not finite")
    warnings += [f"step {event.step:,}: {event.text}" for event in run.events[-_LISTED:]]
    shape = about.get("data_format", {}).get("shape")
    return RunStatus(
        run=replace(run, saved=about.get("progress", {})),
        holder=holder_of(run.path),
        checkpoint=found.path,
        saved=int(about.get("progress", {}).get("step", 0)),
        best=best if os.path.lexists(best) and not problem else None,
        size=_size(run.path),
        warnings=(*warnings, *run.warnings),
        shape=tuple(shape) if shape else None,
    )


def _size(folder: Path) -> int:
    """Return the size of all files in a folder in bytes. Links are not followed, nor counted."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                size += 0 if os.path.islink(path) else os.stat(path).st_size
            except OSError:  # removed by the process that trains
                continue
    return size
