"""Animations of samples: frames, and their encoding as WebP, GIF or MP4."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancore.errors import ConfigError, why_not_imported
from gancore.sampling.draw import SampleStream
from gancore.sampling.grid import DEFAULT_LAYOUT, Layout, grid, picture_size, scatter, tiles

Animated = Literal["webp", "gif", "mp4"]
ANIMATED: tuple[Animated, ...] = ("webp", "gif", "mp4")
FPS = 20.0
"""Frames per second by default: 50 ms each, which all three forms can keep."""
LEAST_FPS = 0.1
MOST_FPS = {"webp": 1000, "gif": 50, "mp4": 240}
"""Most frames per second. Browsers slow down a GIF whose frames are shorter than 20 ms."""
_UNIT = {"webp": 1, "gif": 10}  # milliseconds: what durations are multiples of
_MOST_PIXELS = 1 << 27  # of all frames: Pillow keeps those of a WebP or a GIF in memory
_LONGEST_SIDE = {"webp": 16383, "gif": 65535, "mp4": 8192}
_MOST_LOOKED_AT = 256
_GOLDEN = 0.6180339887498949
_QUALITY = "16"  # of H.264: differences are hardly visible


@dataclass(frozen=True)
class PictureStyle:
    """How pictures and animations show samples: over which real points (M, 2), in which layout, and how fast.

    A frame of an animation shows `per_frame` samples.
    """

    real: Tensor | None = None
    layout: Layout = DEFAULT_LAYOUT
    fps: float | None = None
    per_frame: int = 1

    @property
    def speed(self) -> float:
        """The frames of an animation per second."""
        return FPS if self.fps is None else self.fps


DEFAULT_STYLE = PictureStyle()


def check_animation(samples: SampleStream, form: Animated, style: PictureStyle) -> None:
    """Raise ConfigError when samples, which make pictures, do not fit an animation."""
    fps, (frames, rest) = style.speed, divmod(samples.count, style.per_frame)
    if not LEAST_FPS <= fps <= MOST_FPS[form]:
        raise ConfigError(
            f"a .{form} has at most {MOST_FPS[form]} frames per second, and at least {LEAST_FPS}; received {fps:g}",
            "leave --fps out for 20",
        )
    rows, columns = style.layout.table(style.per_frame)
    if rows * columns < style.per_frame:
        raise ConfigError(f"a grid of {rows} x {columns} does not show {style.per_frame} samples", "use another --grid")
    if rest:
        raise ConfigError(
            f"frames of {style.per_frame} samples each do not divide {samples.count} samples evenly",
            "use another --grid, or draw more",
        )
    if frames < 2:
        raise ConfigError(f"an animation has two frames or more; received {frames}", "write a picture: --out FILE.png")
    width, height = picture_size(samples.shape, style.per_frame, style.layout)
    if max(width, height) > _LONGEST_SIDE[form]:
        raise ConfigError(
            f"a frame of a .{form} has at most {_LONGEST_SIDE[form]:,} pixels a side; received {width:,} x {height:,}",
            "use a smaller --grid or --upscale",
        )
    if form != "mp4" and frames * width * height > _MOST_PIXELS:
        raise ConfigError(
            f"{frames:,} frames of {width:,} x {height:,} pixels do not fit in a .{form}, which holds at most "
            f"{_MOST_PIXELS:,} pixels",
            "write an .mp4, which has no limit, or fewer frames",
        )


def changes_by(form: str, samples: SampleStream, style: PictureStyle) -> Iterator[str]:
    """Yield what an animation shows otherwise than the samples are; nothing for other forms."""
    if form not in ANIMATED:
        return
    if form != "webp" and len(samples.shape) == 3 and samples.shape[0] == 4:
        yield f"a .{form} shows transparent pixels on white; .webp keeps them"
    if form == "gif" and len(samples.shape) == 3 and samples.shape[0] != 1:
        yield "a .gif has at most 256 colors in a frame; .webp keeps all"
    width, height = picture_size(samples.shape, style.per_frame, style.layout)
    if form == "mp4" and (width % 2 or height % 2):
        even = f"{width + width % 2} x {height + height % 2}"
        yield f"the frames have {even} pixels instead of {width} x {height}: H.264 needs even sizes"


class Encoder(Protocol):
    """Makes a file of frames."""

    def add(self, frame: Image.Image) -> None:
        """Add the next frame; all have the same size and mode."""

    def encoded(self) -> bytes:
        """Return the file of the frames so far; after that, no frame can be added."""


class Animation:
    """An animation that is made while samples are drawn. `count` is the number of samples in its frames so far.

    All frames have one scale. Where the format of the samples says none, it is that of some drawn before.
    """

    def __init__(self, form: Animated, samples: SampleStream, style: PictureStyle) -> None:
        self.count = 0
        self._style, self._waiting = style, torch.empty(0, *samples.shape, dtype=samples.dtype)
        self._encoder: Encoder = _Video(style.speed) if form == "mp4" else _Pictures(form, style.speed)
        self._limits, self._framed = samples.limits, style.real
        if len(samples.shape) == 1 and self._framed is None:
            self._framed = _spread(samples)
        elif self._limits is None and samples.dtype != torch.uint8:
            some = _spread(samples)
            self._limits = float(some.min()), float(some.max())

    def add(self, chunk: Tensor) -> None:
        """Add samples (M, …); those that do not fill a frame wait for the next ones."""
        waiting, size = torch.cat([self._waiting, chunk]), self._style.per_frame
        while len(waiting) >= size:
            self._encoder.add(self._frame(waiting[:size]))
            waiting, self.count = waiting[size:], self.count + size
        self._waiting = waiting

    def encoded(self) -> bytes:
        """Return the file of the frames so far; after that, no sample can be added."""
        return self._encoder.encoded()

    def _frame(self, samples: Tensor) -> Image.Image:
        if samples.ndim == 2:
            return scatter(samples, self._style.real, self._framed)
        return grid(tiles(samples, self._limits), self._style.layout)


def _spread(samples: SampleStream) -> Tensor:
    """Return some samples from all over the stream."""
    number = min(samples.count, max(1, _MOST_LOOKED_AT // samples.chunk_size))
    places = sorted({int(part * _GOLDEN % 1 * samples.count) for part in range(number)})  # spread evenly, no period
    starts = sorted({place - place % samples.chunk_size for place in places})
    return torch.cat([samples.chunk(start)[: samples.count - start] for start in starts])


class _Pictures:
    """An endless animation as WebP, without loss, or as GIF."""

    def __init__(self, form: Literal["webp", "gif"], fps: float) -> None:
        self._form, self._fps = form, fps
        self._frames: list[Image.Image] = []

    def add(self, frame: Image.Image) -> None:
        self._frames.append(_on_white(frame) if self._form == "gif" else frame)

    def encoded(self) -> bytes:
        unit = _UNIT[self._form]
        ends = [round(number * 1000 / self._fps / unit) * unit for number in range(len(self._frames) + 1)]
        durations = [end - start for start, end in pairwise(ends)]
        file, (first, *others) = io.BytesIO(), self._frames
        settings = {"append_images": others, "duration": durations, "loop": 0, "lossless": True}
        try:
            first.save(file, self._form.upper(), save_all=True, **settings)  # a GIF has no setting `lossless`
        except OverflowError as error:  # Pillow shows frames that do not differ as one
            problem = f"a .{self._form} cannot show a frame for as long as the ones that do not differ take"
            raise ConfigError(problem, "use more --fps, or --out FILE.webp") from error
        return file.getvalue()


class _Video:
    """H.264 in MP4, with colors at half the resolution (yuv420p), which every player shows."""

    def __init__(self, fps: float) -> None:
        import av

        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4")
        rate = Fraction(fps).limit_denominator(1000)
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
        self._stream.pix_fmt = "yuv420p"
        self._has_size = self._is_closed = False

    def add(self, frame: Image.Image) -> None:
        from av import VideoFrame

        pixels = np.asarray(_on_white(frame).convert("RGB"))
        pixels = np.pad(pixels, ((0, frame.height % 2), (0, frame.width % 2), (0, 0)), mode="edge")
        if not self._has_size:
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._has_size = True
        self._container.mux(self._stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))

    def encoded(self) -> bytes:
        if not self._is_closed:
            self._is_closed = True
            self._container.mux(self._stream.encode(None))
            self._container.close()
        return self._file.getvalue()


def check_installed(form: str) -> None:
    """Raise ConfigError when the package that encodes this form is not installed."""
    if form == "mp4":
        try:
            import av  # noqa: F401  # only whether it can be imported
        except ImportError as error:
            problem = f"an .mp4 needs PyAV, which {why_not_imported(error, 'av')}"
            raise ConfigError(problem, "pip install 'gancore[video]'") from error


def _on_white(frame: Image.Image) -> Image.Image:
    """Return a picture without transparency."""
    if frame.mode != "RGBA":
        return frame
    return Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame).convert("RGB")
