"""Samples as pictures: a grid of images or of series, or a scatter plot of points in the plane."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import pad

from gancore.contracts import Shape

REAL_POINTS = 2000
"""The most real points that a scatter plot shows."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Modes of pictures in Pillow, by the number of channels."""
_SMALLEST_TILE, _PLOT = 64, 480  # pixels along each side
_SUPERSAMPLING = 2  # a scatter plot is drawn larger by this factor, so that its points are round
_BACKGROUND, _REAL, _GENERATED = "#ffffff", "#a9b8c6", "#c8102e"
_FEW_POINTS, _LARGE_DOT = 16, 6  # that few generated points would be hard to see; radius in pixels
_SERIES_PLOT = (64, 96)  # height and width in pixels
_LINES = ("#c8102e", "#2b5c8a", "#3a7d44", "#8a5a00")  # of the channels of a series


@dataclass(frozen=True)
class Layout:
    """Rows and columns of a grid, and the integer that enlarges its images. None chooses them; see `grid`."""

    grid: tuple[int, int] | None = None
    upscale: int | None = None

    def table(self, count: int) -> tuple[int, int]:
        """Return rows and columns for this many images."""
        columns = math.ceil(math.sqrt(count))
        return self.grid or (math.ceil(count / columns), columns)

    def factor(self, height: int, width: int) -> int:
        """Return how many times an image of this size is enlarged."""
        return self.upscale or max(1, _SMALLEST_TILE // max(height, width))


DEFAULT_LAYOUT = Layout()


def is_picture(shape: Shape) -> bool:
    """Return whether samples of a shape can be shown: images of 1, 3 or 4 channels, series (C, L), or points (2,)."""
    is_image = len(shape) == 3 and shape[0] in MODES
    is_series = len(shape) == 2 and shape[1] > 1
    return is_image or is_series or shape == (2,)


def picture(
    samples: Tensor,
    real: Tensor | None = None,
    limits: tuple[float, float] | None = None,
    layout: Layout = DEFAULT_LAYOUT,
) -> Image.Image:
    """Return samples in one picture; points (N, 2) are drawn over the real ones (M, 2), if given.

    See `tiles` for `limits`. The `layout` is that of images and series.
    """
    if samples.ndim == 2:
        return scatter(samples, real)
    return grid(tiles(samples, limits), layout)


def tiles(samples: Tensor, limits: tuple[float, float] | None = None) -> Tensor:
    """Return images or series as uint8 (N, C, H, W), a tile for each.

    float32 is scaled so that `limits` are black and white, or the ends of a plot; by default the lowest and the highest
    value are.
    """
    return plots(samples, limits) if samples.ndim == 3 else _bytes(samples, limits)


def pixels(shown: Image.Image) -> Tensor:
    """Return a gray, RGB or RGBA picture as a tensor, uint8 (C, H, W)."""
    values = torch.from_numpy(np.array(shown))
    return values.unsqueeze(0) if values.ndim == 2 else values.permute(2, 0, 1).contiguous()


def grid_pixels(shape: Shape, count: int, layout: Layout = DEFAULT_LAYOUT) -> int:
    """Return about how many pixels the picture of this many images or series has."""
    height, width = _SERIES_PLOT if len(shape) == 2 else shape[1:]
    return count * (height + 1) * (width + 1) * layout.factor(height, width) ** 2


def picture_size(shape: Shape, count: int, layout: Layout = DEFAULT_LAYOUT) -> tuple[int, int]:
    """Return width and height in pixels of the picture of this many samples of a shape."""
    if len(shape) == 1:
        return _PLOT, _PLOT
    height, width = _SERIES_PLOT if len(shape) == 2 else shape[1:]
    factor, (rows, columns) = layout.factor(height, width), layout.table(count)
    if rows == columns == 1:
        return width * factor, height * factor
    return (columns * (width + 1) + 1) * factor, (rows * (height + 1) + 1) * factor


def grid(images: Tensor, layout: Layout = DEFAULT_LAYOUT) -> Image.Image:
    """Return a picture of images (N, C, H, W) uint8 in a grid, by default as square as their number allows.

    Places of the grid without an image are at its end, and black. Images are enlarged by an integer factor, without
    interpolation; by default to about 64 pixels a side.
    """
    factor, image = layout.factor(*images.shape[2:]), images[0]
    rows, columns = layout.table(len(images))
    if rows * columns > 1:
        tiles = pad(images, (1, 0, 1, 0, 0, 0, 0, rows * columns - len(images)))  # with a line of zeros between them
        table = tiles.view(rows, columns, *tiles.shape[1:]).permute(2, 0, 3, 1, 4)  # (C, rows, H', columns, W')
        image = pad(table.flatten(3, 4).flatten(1, 2), (0, 1, 0, 1))
    return enlarged(tile_picture(image), factor)


def enlarged(shown: Image.Image, factor: int) -> Image.Image:
    """Return a picture whose pixels are squares of `factor` times `factor`."""
    return (
        shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST) if factor > 1 else shown
    )


def plots(series: Tensor, limits: tuple[float, float] | None = None) -> Tensor:
    """Return a plot of each series (N, C, L), uint8 (N, 3, H, W): a line per channel, one scale for all."""
    values = series.float().nan_to_num()
    low, high = limits or (float(values.min()), float(values.max()))
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


def _bytes(images: Tensor, limits: tuple[float, float] | None) -> Tensor:
    """Return images as uint8; see `tiles`."""
    if images.dtype == torch.uint8:
        return images
    low, high = limits or (float(images.min()), float(images.max()))
    return ((images - low) * (255 / ((high - low) or 1.0))).round().clamp(0, 255).to(torch.uint8)


def scatter(points: Tensor, real: Tensor | None = None, framed: Tensor | None = None) -> Image.Image:
    """Return a plot of generated points (N, 2) in red over real ones (M, 2) in gray, with both axes to one scale.

    The frame fits the points `framed` (K, 2): by default the real ones, or the generated ones if there are no real
    ones. Points outside are drawn at the border, and points that are not finite are left out.
    """
    if framed is None:
        framed = points if real is None or len(real) == 0 else real
    framed = framed[framed.isfinite().all(dim=1)]
    low, high = (framed.amin(dim=0), framed.amax(dim=0)) if len(framed) else (-framed.new_ones(2), framed.new_ones(2))
    center, reach = (low + high) / 2, float((high - low).max()) * 0.6 or 1.0
    side = _PLOT * _SUPERSAMPLING
    plot = Image.new("RGB", (side, side), _BACKGROUND)
    pen = ImageDraw.Draw(plot)
    dot = (_LARGE_DOT if len(points) <= _FEW_POINTS else 1) * _SUPERSAMPLING
    for group, color, radius in ((real, _REAL, 3 * _SUPERSAMPLING), (points, _GENERATED, dot)):
        if group is None:
            continue
        places = ((group[group.isfinite().all(dim=1)] - center) / reach).clamp(-1, 1)
        for x, y in ((places * places.new_tensor([1, -1]) + 1) / 2 * (side - 1)).tolist():
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    return plot.resize((_PLOT, _PLOT), Image.Resampling.LANCZOS)


def png_bytes(shown: Image.Image, level: int = 6) -> bytes:
    """Return a picture as a PNG; `level` of compression is 0 to 9, and lower ones are faster."""
    file = io.BytesIO()
    shown.save(file, "PNG", compress_level=level)
    return file.getvalue()


def tile_picture(image: Tensor) -> Image.Image:
    """Return the picture of an image (C, H, W) uint8 of 1, 3 or 4 channels."""
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).contiguous().numpy(), MODES[len(image)])
