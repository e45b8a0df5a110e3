"""The contract of observing: who is told of a run while it goes by, and the log that every run keeps.

An observer is told what the run itself writes down: the numbers of its log, its pictures, its files, its end. It takes
no part in the run: it sees neither networks nor randomness, and what it does with what it is given changes nothing.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gancore.component import Component
from gancore.utils.json import json_safe

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["JSONL", "LOG", "Observer", "Outcome", "RunInfo", "Writer"]

LOG = "metrics.jsonl"
"""The log's name in the folder of a run."""

Outcome = Literal["finished", "interrupted", "failed"]
"""How a run ended: at its total, because nobody asked for more, or by an error."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known of a run before it goes on. Fields are only ever added.

    `folder` is that of the run, in which an observer may keep a file or a folder of its own name; `config` the resolved
    config as plain data; `step` the one that the run goes on from, 0 for a new one. Of a run that was interrupted some
    steps after it may have been told already: they are told again.
    """

    folder: Path
    config: Mapping[str, Any]  # Any: data of a file
    step: int = 0


class Writer:
    """An observer at work. It overrides what it wants to be told; the rest goes past it.

    Every step is a number of updates of G; at step 0 the run has not begun. What is handed over belongs to the writer.
    """

    def scalars(self, numbers: Mapping[str, float]) -> None:
        """A line of the log, or an evaluation: flat numbers by name, `step`, `kimg` and `seconds` among them.

        The others may be NaN or infinite.
        """

    def image(self, step: int, name: str, image: Tensor) -> None:
        """A picture, uint8 (C, H, W) in 0..255 with 1, 3 or 4 channels, under a name that stays: `samples`."""

    def file(self, step: int, path: Path) -> None:
        """A file of the run that is whole: a checkpoint, a picture, an evaluation. Checkpoints may be gone later."""

    def end(self, outcome: Outcome) -> None:
        """The run is over, and nothing more is told."""


class Observer(Component):
    """Is told of a run: its numbers, pictures and files."""

    kind = "observer"

    @abstractmethod
    def build(self, run: RunInfo) -> Writer:
        """What is told of this run. It may open files and connections, and closes them at the end.

        Whatever it raises, then or later, costs the run a warning and this observer, no more.
        """


class JSONL(Observer):
    """The log of a run, one JSON object per line of metrics.jsonl; every run has it, named or not."""

    name = "jsonl"

    def build(self, run: RunInfo) -> Writer:
        return _Lines(run.folder / LOG)


class _Lines(Writer):
    """Opens the file for each line, so that what was told is there whatever comes next."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def scalars(self, numbers: Mapping[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(json_safe(numbers), allow_nan=False) + "\n")
