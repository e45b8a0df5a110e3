"""Pictures of a page: WebP within the HTML, without the enlargement that pictures in the folder of a run have."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from gancore.errors import DataError
from gancore.sampling.run_pictures import open_picture

T = TypeVar("T")

_MOST_FACTOR = 64  # by which pictures in the folder of a run are enlarged
MOST_FRAMES = 24
"""Sample pictures of one run on a page."""
_FRAMES_BYTES = 1_200_000  # of a run, as all limits of bytes
_PICTURE_BYTES = 250_000
_LONGEST_SIDE = 1200
_QUALITIES = (85, 70, 50)
_RUNS_IN_FULL, _LEAST_SHARE = 4, 1 / 12


@dataclass(frozen=True)
class Embedded:
    """A picture as the value of `src`, and its size in pixels."""

    src: str
    width: int
    height: int


@dataclass(frozen=True)
class Frame:
    """The picture of samples of a step."""

    step: int
    picture: Embedded


def share_of(runs: int) -> float:
    """Return the part of each limit of bytes that a run may use on a page with this number of runs."""
    return max(_LEAST_SHARE, min(1.0, _RUNS_IN_FULL / runs))


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` items, evenly chosen, with the first and the last one."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def without_enlargement(image: Image.Image) -> Image.Image:
    """Return a picture whose pixels were all enlarged by an integer factor without it, and another one as it is."""
    for factor in range(_MOST_FACTOR, 1, -1):
        if image.width % factor == image.height % factor == 0:
            small = image.resize((image.width // factor, image.height // factor), Image.Resampling.NEAREST)
            if small.resize(image.size, Image.Resampling.NEAREST).tobytes() == image.tobytes():
                return small
    return image


def embedded(image: Image.Image, share: float = 1.0) -> Embedded:
    """Return a picture as WebP: without loss if it is small, else with as little loss as needed; see `share_of`."""
    return embed_all([image], share * _PICTURE_BYTES)[0]


def embed_all(images: Sequence[Image.Image], most_bytes: float) -> list[Embedded]:
    """Return pictures as WebP of one quality that have at most `most_bytes` together, or nearly so."""
    images = [_reduced(image, _LONGEST_SIDE) for image in images]
    encoded = [_webp(image, None) for image in images]
    for quality in _QUALITIES:
        if sum(map(len, encoded)) <= most_bytes:
            break
        encoded = [_webp(image, quality) for image in images]
    while sum(map(len, encoded)) > most_bytes and max(max(image.size) for image in images) > 64:
        images = [_reduced(image, max(image.size) * 2 // 3) for image in images]
        encoded = [_webp(image, _QUALITIES[-1]) for image in images]
    return [_uri(image, data) for image, data in zip(images, encoded, strict=True)]


def frames_of(pictures: Sequence[tuple[int, Path]], notes: list[str], share: float = 1.0) -> list[Frame]:
    """Return at most `MOST_FRAMES` pictures through training; `notes` get those that cannot be shown.

    `share` is that of the limit of bytes; see `share_of`.
    """
    steps, images = [], []
    for step, path in evenly(pictures, MOST_FRAMES):
        try:
            image = open_picture(path)
        except DataError as error:
            notes.append(error.message)
        else:
            steps.append(step)
            images.append(without_enlargement(image))
    if not images:
        return []
    return [Frame(*pair) for pair in zip(steps, embed_all(images, share * _FRAMES_BYTES), strict=True)]


def _reduced(image: Image.Image, longest: int) -> Image.Image:
    if max(image.size) <= longest:
        return image
    factor = longest / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BOX)


def _webp(image: Image.Image, quality: int | None) -> bytes:
    """Return a picture as WebP of this quality, and without loss for None."""
    file = io.BytesIO()
    shown = image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
    if quality is None:
        shown.save(file, "WEBP", lossless=True, quality=50, method=3)
    else:
        shown.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()


def _uri(image: Image.Image, data: bytes) -> Embedded:
    return Embedded(f"data:image/webp;base64,{base64.b64encode(data).decode()}", *image.size)
