"""An observer that logs runs with trackio, on this machine or to a Space of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic import Field
from torch import Tensor

from gancore import Observer, RunInfo, Writer, hookimpl
from gancore.errors import ConfigError
from gancore.observers import Outcome

if TYPE_CHECKING:
    import trackio

NAME = "trackio-name"
"""File in the run folder with the name of the run in trackio, so that a resumed run continues it."""


class Trackio(Observer):
    """Log numbers, pictures and the paths of checkpoints with trackio."""

    name = "trackio"
    project: str = Field(default="gancore", min_length=1, description="project that the run belongs to")
    space: str = Field(default="", description="Space of Hugging Face, as user/name; empty: this machine")

    def check(self) -> None:
        _package()
        from huggingface_hub import get_token

        if self.space and get_token() is None:
            raise ConfigError(
                f"no token of Hugging Face was found, which the Space {self.space!r} needs",
                "run: hf auth login, or leave out observers.trackio.space",
            )

    def build(self, run: RunInfo) -> Writer:
        self.check()
        trackio = _package()
        path = run.folder / NAME
        if not path.exists():
            # Folders of two working directories may have one name.
            path.write_text(f"{run.folder.name}-{uuid4().hex[:8]}", encoding="utf-8")
        begun = trackio.init(
            project=self.project,
            name=path.read_text(encoding="utf-8").strip(),
            space_id=self.space or None,
            config=dict(run.config),
            resume="allow",
            embed=False,
        )
        return _TrackioWriter(begun, trackio)


class _TrackioWriter(Writer):
    def __init__(self, run: trackio.Run, package: ModuleType) -> None:
        self._run, self._package = run, package

    def scalars(self, numbers: Mapping[str, float]) -> None:
        self._run.log({name: numbers[name] for name in numbers.keys() - {"step"}}, step=int(numbers["step"]))

    def image(self, step: int, name: str, image: Tensor) -> None:
        pixels = image[:3].expand(3, -1, -1).permute(1, 2, 0) if len(image) < 4 else image.permute(1, 2, 0)
        self._run.log({name: self._package.Image(pixels.numpy())}, step=step)

    def file(self, step: int, path: Path) -> None:
        if path.suffix == ".safetensors":
            self._run.log({path.stem if path.stem == "best" else "checkpoint": str(path.absolute())}, step=step)

    def end(self, outcome: Outcome) -> None:
        self._package.finish()  # unlike the run's own method, not once more when the process ends


def _package() -> ModuleType:
    """Return the package, which takes a while to import. Raise ConfigError without it."""
    try:
        import trackio
    except ImportError as error:
        raise ConfigError("the package trackio is not installed", "install it with: pip install trackio") from error
    package: ModuleType = trackio
    return package


@hookimpl
def gancore_observers() -> Iterable[type[Observer]]:
    return [Trackio]
