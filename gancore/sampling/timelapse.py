"""The pictures that a run drew during training, from the same noise, as the frames of an animation."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gancore.checkpoint.log import kimg_at, read_log
from gancore.errors import CheckpointError, ConfigError, DataError
from gancore.sampling.draw import SampleStream
from gancore.sampling.grid import pixels
from gancore.sampling.run_pictures import mode_and_size, open_picture, pictures_among

TIMELAPSE_FPS = 4.0
"""Frames per second by default: runs draw few pictures, and a person reads their captions."""
_MODES = ("L", "RGB", "RGBA")  # each holds the ones before without loss
_TEXT, _STRIP = 14, 20  # pixels: height of the caption's text, and of the strip below the picture
_BACKGROUND, _INK = 255, 31


def timelapse(run: Path | str) -> SampleStream:
    """Return the pictures in the folder `samples` of a run, oldest first, as images (N, C, H, W) with a caption.

    The caption says the step, and the real images so far (kimg) if the run has a log. A run in training can be read
    too. `save_samples` makes an animation of them: `save_samples(timelapse("runs/0001"), "growth.webp", fps=4)`.
    Raises CheckpointError when there is no run at the path, ConfigError when it has fewer than two pictures, DataError
    when one is damaged or has more than 50 million pixels.
    """
    run = Path(run)
    folder = run / "samples"
    if not folder.is_dir():
        raise CheckpointError(f"{run} is no run: it has no folder samples", "name the folder of a run: runs/0001")
    names = os.listdir(folder)
    pictures = pictures_among(folder, names)
    if len(pictures) < 2:
        arrays = any(name.endswith(".npy") for name in names)
        raise ConfigError(
            f"a timelapse needs two pictures in {folder}, which has {len(pictures)}",
            "its samples make no pictures" if arrays else "sample.every_kimg says how often a run draws one",
        )
    steps, files = zip(*pictures, strict=True)
    modes, sizes = zip(*map(_checked, files), strict=True)
    mode = max(modes, key=_MODES.index)
    width, height = map(max, zip(*sizes, strict=True))
    captions = list(map(_caption, steps, kimg_at(read_log(run / "metrics.jsonl"), steps)))

    def chunk(number: int) -> Tensor:
        shown = open_picture(files[number]).convert(mode)
        return pixels(_framed(shown, (width, height), captions[number])).unsqueeze(0)

    shape = (len(Image.new(mode, (1, 1)).getbands()), height + _STRIP, width)
    return SampleStream(len(files), shape, torch.uint8, chunk, chunk_size=1)


def _checked(file: Path) -> tuple[str, tuple[int, int]]:
    """Return mode and size of a picture. Raise DataError unless a run draws such pictures."""
    mode, size = mode_and_size(file)
    if mode not in _MODES:
        raise DataError(f"{file} is not a picture that a run draws: its mode is {mode}", "move it out of the folder")
    return mode, size


def _caption(step: int, kimg: float | None) -> str:
    return f"step {step:,}" + ("" if kimg is None else f" · {kimg:,.{1 if 0 < kimg < 10 else 0}f} kimg")


def _framed(shown: Image.Image, size: tuple[int, int], caption: str) -> Image.Image:
    """Return the picture at the top left of a canvas, with a caption in a strip below."""
    width, height = size
    strip = Image.new("L", (width, _STRIP), _BACKGROUND)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(size=_TEXT)
    pen.text((_STRIP // 4, _STRIP // 2), caption, fill=_INK, font=font, anchor="lm")
    canvas = Image.new(shown.mode, (width, height + _STRIP))
    canvas.paste(shown, (0, 0))
    canvas.paste(strip.convert(shown.mode), (0, height))
    return canvas
