"""Samples as pictures and files: a grid of images or of series, a scatter plot of points in the plane, or arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import pad

from gancore.errors import ConfigError, StorageError
from gancore.utils.atomic import replacing

REAL_POINTS = 2000
"""The most real points that a scatter plot shows."""
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_SMALLEST_TILE, _PLOT = 64, 480  # pixels along each side
_SUPERSAMPLING = 2  # a scatter plot is drawn larger by this factor, so that its points are round
_BACKGROUND, _REAL, _GENERATED = "#ffffff", "#a9b8c6", "#c8102e"
_SERIES_PLOT = (64, 96)  # height and width in pixels
_LINES = ("#c8102e", "#2b5c8a", "#3a7d44", "#8a5a00")  # of the channels of a series


def is_picture(samples: Tensor) -> bool:
    """Return whether samples can be shown: images of 1, 3 or 4 channels, series (N, C, L), or points (N, 2)."""
    images, points = samples.ndim == 4 and samples.shape[1] in _MODES, samples.ndim == 2 and samples.shape[1] == 2
    return images or points or (samples.ndim == 3 and samples.shape[2] > 1)


def picture(samples: Tensor, real: Tensor | None = None) -> Image.Image:
    """Return samples in one picture; points (N, 2) are drawn over the real ones (M, 2), if given.

    Images of float32 are shown from their lowest value, black, to their highest, white.
    """
    if samples.ndim == 2:
        return scatter(samples, real)
    return grid(plots(samples) if samples.ndim == 3 else _bytes(samples))


def pixels(shown: Image.Image) -> Tensor:
    """Return a gray, RGB or RGBA picture as a tensor, uint8 (C, H, W)."""
    values = torch.from_numpy(np.array(shown))
    return values.unsqueeze(0) if values.ndim == 2 else values.permute(2, 0, 1).contiguous()


def grid(images: Tensor) -> Image.Image:
    """Return a picture of images (N, C, H, W) uint8 in a grid, as square as their number allows.

    Images of less than 64 pixels a side are enlarged by an integer factor, without interpolation.
    """
    factor, image = max(1, _SMALLEST_TILE // max(images.shape[2:])), images[0]
    if len(images) > 1:
        columns = math.ceil(math.sqrt(len(images)))
        rows = math.ceil(len(images) / columns)
        tiles = pad(images, (1, 0, 1, 0, 0, 0, 0, rows * columns - len(images)))  # with a line of zeros between them
        table = tiles.view(rows, columns, *tiles.shape[1:]).permute(2, 0, 3, 1, 4)  # (C, rows, H', columns, W')
        image = pad(table.flatten(3, 4).flatten(1, 2), (0, 1, 0, 1))
    shown = _picture(image)
    return shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)


def plots(series: Tensor) -> Tensor:
    """Return a plot of each series (N, C, L), uint8 (N, 3, H, W): a line per channel, one scale for all."""
    values = series.float().nan_to_num()
    low, high = float(values.min()), float(values.max())
    height, width = _SERIES_PLOT
    heights = (high - values) / ((high - low) or 1.0) * (height - 1)
    across = torch.linspace(0, width - 1, series.shape[2]).tolist()
    tiles = []
    for sample in heights:
        plot = Image.new("RGB", (width, height), _BACKGROUND)
        pen = ImageDraw.Draw(plot)
        for channel, line in enumerate(sample.tolist()):
            pen.line(list(zip(across, line, strict=True)), fill=_LINES[channel % len(_LINES)])
        tiles.append(pixels(plot))
    return torch.stack(tiles)


def _bytes(images: Tensor) -> Tensor:
    """Return images as uint8; float32 is scaled from the lowest to the highest value."""
    if images.dtype == torch.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    return ((images - low) * (255 / ((high - low) or 1.0))).round().clamp(0, 255).to(torch.uint8)


def scatter(points: Tensor, real: Tensor | None = None) -> Image.Image:
    """Return a plot of generated points (N, 2) in red over real ones (M, 2) in gray, with both axes to one scale.

    The frame fits the real points, or the generated ones if there are no real ones. Points outside are drawn at the
    border, and points that are not finite are left out.
    """
    framed = points if real is None or len(real) == 0 else real
    framed = framed[framed.isfinite().all(dim=1)]
    low, high = (framed.amin(dim=0), framed.amax(dim=0)) if len(framed) else (-framed.new_ones(2), framed.new_ones(2))
    center, reach = (low + high) / 2, float((high - low).max()) * 0.6 or 1.0
    side = _PLOT * _SUPERSAMPLING
    plot = Image.new("RGB", (side, side), _BACKGROUND)
    pen = ImageDraw.Draw(plot)
    for group, color, radius in ((real, _REAL, 3 * _SUPERSAMPLING), (points, _GENERATED, 1 * _SUPERSAMPLING)):
        if group is None:
            continue
        places = ((group[group.isfinite().all(dim=1)] - center) / reach).clamp(-1, 1)
        for x, y in ((places * places.new_tensor([1, -1]) + 1) / 2 * (side - 1)).tolist():
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    return plot.resize((_PLOT, _PLOT), Image.Resampling.LANCZOS)


Form = Literal["picture", "npy", "safetensors", "folder"]


def form_of(out: Path) -> Form:
    """Return the form of samples at this path: a picture for `.png`, an array for `.npy` and `.safetensors`.

    A new or empty folder, or a path without a suffix, gets numbered PNGs. Raises ConfigError for other paths.
    """
    if out.is_dir():
        if any(out.iterdir()):
            raise ConfigError(f"--out must be a file, or a new or empty folder; {out} is not empty", "name another one")
        return "folder"
    forms: dict[str, Form] = {".png": "picture", ".npy": "npy", ".safetensors": "safetensors", "": "folder"}
    if out.suffix.lower() not in forms:
        problem = f"--out must end in .png, .npy or .safetensors, or be a folder; received {out}"
        raise ConfigError(problem, "--out samples.png")
    return forms[out.suffix.lower()]


def save_samples(samples: Tensor, out: Path | str, real: Tensor | None = None) -> None:
    """Write samples (N, …) in the form of the path (see `form_of`).

    Every file is complete or absent, whenever the process is killed. `real` are points to show behind points (see
    `scatter`). Raises ConfigError when these samples are no picture, StorageError when a file cannot be written.
    """
    out = Path(out)
    form = form_of(out)
    if not isinstance(samples, Tensor):
        raise ConfigError(f"samples must be a tensor; received {type(samples).__name__}", "convert: torch.from_numpy")
    if form in ("picture", "folder") and not (is_picture(samples) and (form == "picture" or samples.ndim > 2)):
        raise ConfigError(
            "images of 1, 3 or 4 channels and series make pictures, points in the plane make one; these have shape "
            f"{tuple(samples.shape[1:])}",
            "write the array instead: --out FILE.npy",
        )
    try:
        (out if form == "folder" else out.parent).mkdir(parents=True, exist_ok=True)
        if form == "folder":
            digits = max(4, len(str(len(samples) - 1)))
            for number, image in enumerate(plots(samples) if samples.ndim == 3 else _bytes(samples)):
                with replacing(out / f"{number:0{digits}d}.png", durable=False) as temporary:
                    _picture(image).save(temporary, "PNG")
            return
        with replacing(out) as temporary, temporary.open("wb") as file:
            if form == "picture":
                picture(samples, real).save(file, "PNG")
            elif form == "npy":
                np.save(file, samples.numpy(), allow_pickle=False)
            else:
                file.write(safetensors.torch.save({"samples": samples.contiguous()}))
    except OSError as error:
        problem = f"cannot write samples to {out}: {error.strerror or error}"
        raise StorageError(problem, "choose another --out") from error


def _picture(image: Tensor) -> Image.Image:
    """Return the picture of an image (C, H, W) uint8 of 1, 3 or 4 channels."""
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).contiguous().numpy(), _MODES[len(image)])
