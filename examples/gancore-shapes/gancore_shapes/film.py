"""An observer that makes an animation of a run's samples."""

from pathlib import Path

from PIL import Image, ImageSequence
from pydantic import Field
from torch import Tensor

from gancore import Observer, RunInfo, Writer


class Film(Observer):
    """All pictures of samples, one after the other, in the file film.gif of the run."""

    name = "film"
    milliseconds: int = Field(default=200, ge=20, le=10_000, description="time that each picture is shown")

    def build(self, run: RunInfo) -> Writer:
        path = run.folder / "film.gif"
        return _FilmWriter(path, self.milliseconds, _frames(path) if run.step and path.exists() else [])


def _frames(path: Path) -> list[Image.Image]:
    """Return the pictures of a film, to which a resumed run adds its own."""
    with Image.open(path) as film:
        return [frame.copy() for frame in ImageSequence.Iterator(film)]


class _FilmWriter(Writer):
    """Collects pictures (C, H, W), and writes the file when the run ends or stops."""

    def __init__(self, path: Path, milliseconds: int, frames: list[Image.Image]) -> None:
        self._path, self._milliseconds, self._frames = path, milliseconds, frames

    def image(self, step: int, name: str, image: Tensor) -> None:
        if name != "samples":  # the contact sheet of the data
            return
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        self._frames.append(Image.fromarray(pixels.numpy()))

    def end(self, outcome: str) -> None:
        if self._frames:
            first, *rest = self._frames
            first.save(self._path, save_all=True, append_images=rest, duration=self._milliseconds, loop=0)
