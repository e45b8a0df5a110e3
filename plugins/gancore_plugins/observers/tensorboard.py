"""Event files for TensorBoard, written by torch's own writer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from torch import Tensor

from gancore.errors import ConfigError
from gancore.observers import Observer, Outcome, RunInfo, Writer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
"""Folder of the event files, in the folder of the run."""


class TensorBoard(Observer):
    """Event files for TensorBoard with numbers and pictures, in the folder `tensorboard` of the run."""

    name = "tensorboard"
    flush_seconds: int = Field(
        default=30, ge=1, le=86400, description="seconds between two writes of pending events to the disk"
    )

    def check(self) -> None:
        _summary_writer()

    def build(self, run: RunInfo) -> Writer:
        return _Events(run.folder / FOLDER, self.flush_seconds, run.step)


class _Events(Writer):
    def __init__(self, folder: Path, flush_seconds: int, step: int) -> None:
        # A resumed run logs again the steps after its checkpoint, so TensorBoard must drop their old events.
        self._events = _summary_writer()(folder, flush_secs=flush_seconds, purge_step=step + 1 if step else None)

    def scalars(self, numbers: Mapping[str, float]) -> None:
        for name in numbers.keys() - {"step"}:
            self._events.add_scalar(name, numbers[name], int(numbers["step"]))

    def image(self, step: int, name: str, image: Tensor) -> None:
        self._events.add_image(name, image, step)

    def end(self, outcome: Outcome) -> None:
        self._events.close()


def _summary_writer() -> type[SummaryWriter]:
    """Return the class of torch, which imports tensorboard. Raise ConfigError without that package."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "the package tensorboard is not installed", "install it with: pip install 'gancore[tensorboard]'"
        ) from error
    return SummaryWriter
