"""The contract of observers, and the log that every run writes.

An observer receives what the run itself writes: log lines, images, files, and how the run ended. It has no access to
networks or randomness, so training results are the same with and without it.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gancore.component import Component
from gancore.utils.json import json_safe

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["JSONL", "LOG", "Observer", "Outcome", "RunInfo", "Writer"]

LOG = "metrics.jsonl"
"""File name of the log in a run directory."""

Outcome = Literal["finished", "interrupted", "failed"]
"""How a run ended: it reached its duration, it was interrupted, or it failed with an error."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What an observer knows about a run before it starts. Later versions may add fields and remove none.

    `folder`: the run directory, in which the observer may keep a file or folder of its own name. `config`: the resolved
    config as plain data. `step`: 0, or the step from which the run resumes. After an interruption, an observer may
    receive some later steps a second time. `data`: what was understood of the data, with the names and counts of its
    classes, as in manifest.json.
    """

    folder: Path
    config: Mapping[str, Any]  # Any: data of a file
    step: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


class Writer:
    """An observer at run time. Override the methods that you need; the others do nothing.

    Steps are training steps; step 0 is before the first. Arguments are copies that the writer may keep and change.
    """

    def scalars(self, numbers: Mapping[str, float]) -> None:
        """Receive a line of the log or an evaluation: flat numbers by name.

        `step`, `kimg` and `seconds` are always present and finite. Other numbers may be NaN or infinite.
        """

    def image(self, step: int, name: str, image: Tensor) -> None:
        """Receive an image grid, uint8 (C, H, W) in 0..255 with 1, 3 or 4 channels.

        Its name is `samples`, or `real` for the contact sheet of the data, which is drawn before the first step.
        """

    def file(self, step: int, path: Path) -> None:
        """Receive the path of a finished file: checkpoint, image or evaluation. Old checkpoints are deleted later."""

    def end(self, outcome: Outcome) -> None:
        """Receive how the run ended. This is the last call."""


class Observer(Component):
    """Observer of a run: receives its log lines, images and files."""

    kind = "observer"

    def check(self) -> None:
        """Raise ConfigError if the observer cannot work here, for example because it needs a package that is missing.

        Called before anything of a new run is prepared, and ends it. By default nothing is checked.
        """

    @abstractmethod
    def build(self, run: RunInfo) -> Writer:
        """Return the writer for this run. It may open files and connections; close them in `end`.

        An exception, here or in any method of the writer, does not stop the run: it prints a warning and drops the
        observer.
        """


class JSONL(Observer):
    """Log of a run in metrics.jsonl, one JSON object per line. Every run has it, whether configured or not."""

    name = "jsonl"

    def build(self, run: RunInfo) -> Writer:
        return _JSONLWriter(run.folder / LOG)


class _JSONLWriter(Writer):
    """Writer that opens the file for each line, so that no line is lost if the process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def scalars(self, numbers: Mapping[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(json_safe(numbers), allow_nan=False) + "\n")
