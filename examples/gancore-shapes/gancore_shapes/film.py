"""An observer that makes an animation of a run's samples."""

from pathlib import Path

from PIL import Image
from pydantic import Field
from torch import Tensor

from gancore import Observer, RunInfo, Writer


class Film(Observer):
    """All pictures of samples, one after the other, in the file film.gif of the run."""

    name = "film"
    milliseconds: int = Field(default=200, ge=20, le=10_000, description="time that each picture is shown")

    def build(self, run: RunInfo) -> Writer:
        return _FilmWriter(run.folder / "film.gif", self.milliseconds)


class _FilmWriter(Writer):
    """Collects pictures (C, H, W), and writes the file when the run ends or stops."""

    def __init__(self, path: Path, milliseconds: int) -> None:
        self._path, self._milliseconds = path, milliseconds
        self._frames: list[Image.Image] = []

    def image(self, step: int, name: str, image: Tensor) -> None:
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        self._frames.append(Image.fromarray(pixels.numpy()))

    def end(self, outcome: str) -> None:
        if self._frames:
            first, *rest = self._frames
            first.save(self._path, save_all=True, append_images=rest, duration=self._milliseconds, loop=0)
