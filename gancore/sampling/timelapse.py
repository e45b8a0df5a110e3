"""The pictures that a run drew during training, from the same noise, as the frames of an animation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gancore.checkpoint.log import read_log
from gancore.errors import CheckpointError, ConfigError, DataError
from gancore.sampling.draw import SampleStream
from gancore.sampling.grid import pixels

TIMELAPSE_FPS = 4.0
"""Frames per second by default: runs draw few pictures, and a person reads their captions."""
_MODES = ("L", "RGB", "RGBA")  # each holds the ones before without loss
_TEXT, _STRIP = 14, 20  # pixels: height of the caption's text, and of the strip below the picture
_BACKGROUND, _INK = 255, 31
_NAME = re.compile(r"step-(\d+)\.png")


def timelapse(run: Path | str) -> SampleStream:
    """Return the pictures in the folder `samples` of a run, oldest first, as images (N, C, H, W) with a caption.

    The caption says the step, and the real images so far (kimg) as far as the log says them. A run in training can be
    read too. `save_samples` makes an animation of them: `save_samples(timelapse("runs/0001"), "growth.webp", fps=4)`.
    Raises CheckpointError when there is no run at the path, ConfigError when it has fewer than two pictures, DataError
    when one is damaged.
    """
    run = Path(run)
    if not (run / "samples").is_dir():
        raise CheckpointError(f"{run} is no run: it has no folder samples", "name the folder of a run: runs/0001")
    steps = {int(found[1]): path for path in (run / "samples").iterdir() if (found := _NAME.fullmatch(path.name))}
    files = [steps[step] for step in sorted(steps)]
    if len(files) < 2:
        arrays = any(path.suffix == ".npy" for path in (run / "samples").iterdir())
        raise ConfigError(
            f"a timelapse needs two pictures in {run / 'samples'}, which has {len(files)}",
            "its samples make no pictures" if arrays else "sample.every_kimg says how often a run draws one",
        )
    shapes = [_checked(file) for file in files]
    mode = max((mode for mode, _ in shapes), key=_MODES.index)
    width, height = (max(size[side] for _, size in shapes) for side in (0, 1))
    captions = _captions(run, sorted(steps))

    def chunk(number: int) -> Tensor:
        with Image.open(files[number], formats=["PNG"]) as shown:
            return pixels(_framed(shown.convert(mode), (width, height), captions[number])).unsqueeze(0)

    shape = (len(Image.new(mode, (1, 1)).getbands()), height + _STRIP, width)
    return SampleStream(len(files), shape, torch.uint8, chunk, chunk_size=1)


def _checked(file: Path) -> tuple[str, tuple[int, int]]:
    """Return mode and size of a picture. Raise DataError when it is damaged."""
    try:
        with Image.open(file, formats=["PNG"]) as shown:
            mode, size = shown.mode, shown.size
            shown.verify()
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file} is damaged: {error}", "move it out of the folder") from error
    if mode not in _MODES:
        raise DataError(f"{file} is not a picture that a run draws: its mode is {mode}", "move it out of the folder")
    return mode, size


def _captions(run: Path, steps: list[int]) -> list[str]:
    """Return a caption for each step."""
    log = [(0.0, 0.0), *((line["step"], line["kimg"]) for line in read_log(run / "metrics.jsonl") if "kimg" in line)]
    logged, kimg = np.array(sorted(log)).T
    captions = []
    for step in steps:
        seen = float(np.interp(step, logged, kimg))  # exact: the batch size is the same between two lines
        known = f" · {seen:,.{1 if 0 < seen < 10 else 0}f} kimg" if step <= logged[-1] else ""
        captions.append(f"step {step:,}{known}")
    return captions


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
