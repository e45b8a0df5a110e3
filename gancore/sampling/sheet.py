"""A contact sheet of real data: the samples of each class in rows, with the name of the class to the left."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gancore.contracts import Shape
from gancore.errors import ConfigError, StorageError
from gancore.sampling.grid import MODES, REAL_POINTS, scatter, tile_picture, tiles
from gancore.utils.atomic import replacing

_SMALLEST_TILE, _LARGEST_TILE = 64, 256  # pixels of the longer side of a sample in the sheet
_WIDTH, _HEIGHT = 1600, 2000  # pixels that the samples fill at most
_MOST_COLUMNS, _MOST_CLASSES, _MOST_LINES = 12, 24, 8
_SERIES_TILE = (64, 96)
_GAP, _TEXT, _MOST_LETTERS = 2, 14, 24
_FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf")
"""Fonts of systems for letters that the one in Pillow lacks, such as those with accents."""
_NO_CHARACTER = "\U0010ffff"
_BACKGROUND, _PAGE, _INK = "#ffffff", "#d5dbe1", "#1f2933"


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Examples(Protocol):
    """Where the samples of a sheet are from, such as a `Feed`."""

    @property
    def shape(self) -> Shape:
        """The shape of a sample."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty without classes."""

    def examples(self, rows: int, per_row: int) -> list[tuple[int, Tensor, Tensor | None]]:
        """Return rows: number of the class, samples (N, …), uint8 or float32, and conditions if they are pictures."""


def can_draw(shape: Shape) -> bool:
    """Return whether samples of this shape make a sheet: images, series, or points in the plane."""
    return len(shape) == 3 or (len(shape) == 2 and shape[1] > 1) or shape == (2,)


def sheet(source: Examples) -> Image.Image:
    """Return a contact sheet of the source, with one or more lines of samples for each of its classes.

    Images of other than 1, 3 or 4 channels are shown as their channels in gray, next to each other. An image that is a
    condition is left of its sample. float32 is shown from the lowest value in the sheet, black, to the highest, white.
    Images with a side above 256 pixels are reduced. Of more than 24 classes the first that have samples are shown.
    Raises ConfigError when the samples are no pictures.
    """
    if not can_draw(source.shape):
        raise ConfigError(
            "a sheet shows images (C, H, W), series (C, L) and points in the plane (2); these samples have shape "
            f"{tuple(source.shape)}",
            "leave --sheet out",
        )
    if source.shape == (2,):
        rows = source.examples(_MOST_CLASSES, REAL_POINTS)
        points = torch.cat([samples for _, samples, _ in rows])
        return scatter(points[:0], points)
    height, width = _tile_size(source.shape)
    most_lines = min(_MOST_LINES, max(1, _HEIGHT // (height + _GAP)))
    most_classes = min(_MOST_CLASSES, max(1, _HEIGHT // (height + _GAP)))
    columns = min(_MOST_COLUMNS, max(2, _WIDTH // (width + _GAP)))
    lines = max(1, most_lines // max(1, len(source.classes)))
    rows = source.examples(most_classes, lines * columns)
    drawn = _tiles(rows)
    names = [_name(source.classes[number]) for number, *_ in rows] if source.classes else []
    font = _font("".join(names))
    labels = [_label(number, _escaped(name, font)) for (number, *_), name in zip(rows, names, strict=False)]
    if more := len(source.classes) - len(labels):
        labels.append(f"and {more:,} more classes")
        drawn.append([])
    return _table(drawn, labels, columns, font)


def save_sheet(drawn: Image.Image, out: Path) -> None:
    """Write a sheet as a PNG; the file is complete or absent. Raises StorageError when it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary, temporary.open("wb") as file:
            drawn.save(file, "PNG")
    except OSError as error:
        raise StorageError(
            f"cannot write the sheet to {out}: {error.strerror or error}", "choose another --sheet"
        ) from error


def _tile_size(shape: Shape) -> tuple[int, int]:
    """Return the height and width of a sample in the sheet, in pixels."""
    if len(shape) == 2:
        return _SERIES_TILE
    channels, height, width = shape
    width *= 1 if channels in MODES else channels
    factor = _factor(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _factor(height: int, width: int) -> float:
    longest = max(height, width)
    return _LARGEST_TILE / longest if longest > _LARGEST_TILE else max(1, _SMALLEST_TILE // longest)


def _tiles(rows: list[tuple[int, Tensor, Tensor | None]]) -> list[list[Image.Image]]:
    """Return the pictures of each row."""
    counts = [len(samples) for _, samples, _ in rows]
    samples = torch.cat([samples for _, samples, _ in rows])
    drawn = _pictures(tiles(samples))
    given = [conditions for _, _, conditions in rows if conditions is not None]
    if given and samples.ndim == 4:
        drawn = [_pair(*both) for both in zip(_pictures(torch.cat(given)), drawn, strict=True)]
    remaining = iter(drawn)
    return [[next(remaining) for _ in range(count)] for count in counts]


def _pictures(images: Tensor) -> list[Image.Image]:
    """Return a picture of each image (N, C, H, W) uint8, enlarged or reduced for the sheet."""
    if images.shape[1] not in MODES:
        images = images.transpose(1, 2).flatten(2).unsqueeze(1)  # (N, 1, H, C W)
    factor = _factor(*images.shape[2:])
    filter_ = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    shown = []
    for image in images:
        drawn = tile_picture(image)
        size = max(1, round(drawn.width * factor)), max(1, round(drawn.height * factor))
        shown.append(drawn if drawn.size == size else drawn.resize(size, filter_))
    return shown


def _pair(condition: Image.Image, sample: Image.Image) -> Image.Image:
    """Return a picture with the condition left of the sample."""
    pair = Image.new("RGB", (condition.width + sample.width, max(condition.height, sample.height)), _BACKGROUND)
    _paste(pair, condition, (0, 0))
    _paste(pair, sample, (condition.width, 0))
    return pair


def _paste(onto: Image.Image, picture: Image.Image, place: tuple[int, int]) -> None:
    """Paste a picture; where it is transparent it becomes white."""
    if picture.mode == "RGBA":
        onto.paste(_BACKGROUND, (*place, place[0] + picture.width, place[1] + picture.height))
    onto.paste(picture.convert("RGB"), place, picture if picture.mode == "RGBA" else None)


def _table(rows: list[list[Image.Image]], labels: list[str], columns: int, font: _Font) -> Image.Image:
    """Return a picture of the rows, each wrapped after `columns` tiles, with their labels to the left."""
    tiles = [tile for row in rows for tile in row]
    width, height = max(tile.width for tile in tiles) + _GAP, max(tile.height for tile in tiles) + _GAP
    margin = max((int(font.getlength(label)) + 3 * _GAP + _TEXT // 2 for label in labels), default=_GAP)
    heights = [height * -(-len(row) // columns) or max(_TEXT + 2 * _GAP, 1) for row in rows]
    longest = min(columns, max(map(len, rows)))
    drawn = Image.new("RGB", (margin + longest * width, _GAP + sum(heights)), _PAGE)
    pen = ImageDraw.Draw(drawn)
    top = _GAP
    for number, (row, tall) in enumerate(zip(rows, heights, strict=True)):
        for place, tile in enumerate(row):
            line, column = divmod(place, columns)
            _paste(drawn, tile, (margin + column * width, top + line * height))
        if labels:
            middle = top + min(tall, height) // 2
            pen.text((2 * _GAP, middle), labels[number], fill=_INK, font=font, anchor="lm")
        top += tall
    return drawn


def _name(name: str) -> str:
    """Return a name in one line, with accents as part of their letters."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _font(text: str) -> _Font:
    """Return the font of Pillow, or one of the system if that has more characters of the text."""
    font = ImageFont.load_default(size=_TEXT)
    lacking = len(_lacking(text, font))
    for name in _FONTS if lacking else ():
        try:
            other = ImageFont.truetype(name, _TEXT)
        except OSError:  # not installed
            continue
        if (missing := len(_lacking(text, other))) < lacking:
            font, lacking = other, missing
    return font


def _lacking(text: str, font: _Font) -> set[str]:
    """Return the characters for which the font has only the box of unknown ones."""
    box = bytes(font.getmask(_NO_CHARACTER))
    return {character for character in set(text) - {" "} if bytes(font.getmask(character)) == box}


def _escaped(text: str, font: _Font) -> str:
    """Return the text with an escape, as in a string of Python, for each character that the font lacks."""
    lacking = _lacking(text, font)
    return "".join(ascii(character)[1:-1] if character in lacking else character for character in text)


def _label(number: int, name: str) -> str:
    """Return the number and the name of a class, the name shortened."""
    shown = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
    return shown if shown == str(number) else f"{number} {shown}"
