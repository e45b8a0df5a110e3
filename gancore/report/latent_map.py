"""Samples that a page lets its reader explore: squares of interpolations between four latents, and classes as rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from gancore.errors import ResourceError
from gancore.report.pictures import Embedded, embed_all
from gancore.sampling.grid import is_picture, tile_picture, tiles
from gancore.sampling.latents import mix, seed_latents
from gancore.sampling.trained import TrainedGenerator

CORNERS = (0, 1, 2, 3)
"""Seeds of the latents in the corners of a map: top left, top right, bottom left, bottom right."""
MOST_CLASSES = 10
_SIDES = (16, 12, 9, 7, 5, 4)
_PER_ROW = 10
_SECONDS, _MAPS_BYTES, _ROWS_BYTES = 4.0, 1_300_000, 400_000
_MOST_SECONDS = 20.0
"""Time for the coarsest maps, and for the rows of classes; a page that training writes delays the next step by it."""
_LONGEST_TILE = 128


@dataclass(frozen=True)
class ClassMap:
    """The map of a class, or of a generator without classes: all its tiles in one picture, row by row."""

    label: str
    sprite: Embedded


@dataclass(frozen=True)
class LatentMap:
    """Maps with `side` x `side` tiles of `width` x `height` pixels each, one for each class that is shown."""

    side: int
    width: int
    height: int
    maps: tuple[ClassMap, ...]


@dataclass(frozen=True)
class ClassRow:
    """Samples of a class, from the same latents as those of other classes."""

    label: str
    picture: Embedded


def labels_of(trained: TrainedGenerator, conditions: Tensor | None) -> list[str]:
    """Return the names of what the maps of a generator are for: its first classes, or the given conditions."""
    condition = trained.spec.condition
    if condition is None:
        return [""]
    if isinstance(condition, int):
        return [trained.class_name(number) or str(number) for number in range(min(condition, MOST_CLASSES))]
    return [f"condition {number + 1}" for number in range(0 if conditions is None else len(conditions))]


def can_map(trained: TrainedGenerator) -> bool:
    """Return whether the samples of a generator are pictures of their own: images or series."""
    return len(trained.shape) > 1 and is_picture(trained.shape)


def seconds_each(trained: TrainedGenerator, conditions: Tensor | None = None) -> float:
    """Return about how many seconds a sample takes; see `latent_map`."""
    times = list[float]()
    for latent in _square(trained, _SIDES[0])[:: _SIDES[0] + 1]:  # the diagonal of a map
        started = time.perf_counter()
        trained.generate(latent.unsqueeze(0), _condition(trained, conditions, 0, 1))
        times.append(time.perf_counter() - started)
        if sum(times) > _SECONDS:
            break
    return median(times)  # the first ones are slower, and the machine may be busy for a moment


def latent_map(trained: TrainedGenerator, conditions: Tensor | None, each: float, share: float = 1.0) -> LatentMap:
    """Return maps of the samples between four latents, as fine as a few seconds and the size of a page allow.

    `conditions` (K, …) are those of a generator that is conditional on tensors, as its dataset stores them. `each` is
    the time of a sample in seconds; a slow generator gets maps of fewer classes. `share` is that of the limit of bytes
    (see `share_of`). Raises ResourceError if the coarsest map of one class would take too long, NumericsError when a
    sample is not finite.
    """
    labels = _affordable(labels_of(trained, conditions), _SIDES[-1] ** 2, each)
    affordable = (side for side in _SIDES if side**2 * each * len(labels) <= _SECONDS)
    side = next(affordable, _SIDES[-1])
    drawn = _tiles_of_labels(trained, _square(trained, side), conditions, len(labels))
    height, width = drawn[0].shape[2:]
    sprites = [tile_picture(_joined(square, side)) for square in drawn]
    pictures = embed_all(sprites, share * _MAPS_BYTES)
    factor = pictures[0].width / sprites[0].width  # below 1 if the pictures were too large for a page
    maps = tuple(ClassMap(*pair) for pair in zip(labels, pictures, strict=True))
    return LatentMap(side, round(width * factor), round(height * factor), maps)


def class_rows(trained: TrainedGenerator, conditions: Tensor | None, each: float, share: float = 1.0) -> list[ClassRow]:
    """Return samples of each class from the same latents; none for a generator that is not conditional.

    See `latent_map` for the arguments and errors.
    """
    if trained.spec.condition is None:
        return []
    labels = _affordable(labels_of(trained, conditions), _PER_ROW, each)
    latents = seed_latents(trained.config.latent, tuple(range(_PER_ROW)))
    drawn = _tiles_of_labels(trained, latents, conditions, len(labels))
    rows = embed_all([tile_picture(_joined(row, 1)) for row in drawn], share * _ROWS_BYTES)
    return [ClassRow(*pair) for pair in zip(labels, rows, strict=True)]


def _affordable(labels: Sequence[str], samples: int, each: float) -> Sequence[str]:
    """Return the first labels of which there is time for this number of samples each; see `latent_map`."""
    count = int(_MOST_SECONDS / (each * samples))
    if count < 1:
        raise ResourceError(
            f"a sample takes {each:.1f} s, and {samples} of them more than {_MOST_SECONDS:g} s",
            "draw on a device that is faster, as in: gancore report RUN --device cuda",
        )
    return labels[:count]


def _tiles_of_labels(trained: TrainedGenerator, latents: Tensor, conditions: Tensor | None, count: int) -> list[Tensor]:
    """Return the tiles (N, C, H, W) of N latents for each of the first `count` labels.

    All have one scale, so that labels can be compared.
    """
    samples = [
        _small(trained.generate(latents, _condition(trained, conditions, number, len(latents))))
        for number in range(count)
    ]
    limits = trained.sample_format.value_range
    if limits is None:
        limits = min(float(each.min()) for each in samples), max(float(each.max()) for each in samples)
    return [tiles(each, limits) for each in samples]


def _condition(trained: TrainedGenerator, conditions: Tensor | None, number: int, count: int) -> Tensor | None:
    """Return the condition of a map for `count` samples."""
    condition = trained.spec.condition
    if condition is None:
        return None
    if isinstance(condition, int):
        return torch.full((count,), number)
    return None if conditions is None else conditions[number].expand(count, *condition)


def _square(trained: TrainedGenerator, side: int) -> Tensor:
    """Return latents (side², Z) between those of four seeds in the corners, row by row."""
    corners = seed_latents(trained.config.latent, CORNERS)
    kind = trained.config.latent.distribution
    places = [number / (side - 1) for number in range(side)]
    rows = []
    for down in places:
        left, right = mix(corners[0], corners[2], down, kind), mix(corners[1], corners[3], down, kind)
        rows += [mix(left, right, across, kind) for across in places]
    return torch.stack(rows)


def _small(samples: Tensor) -> Tensor:
    """Return images (N, C, H, W), reduced where they are larger than a page needs; series as they are."""
    longest = max(samples.shape[2:])
    if samples.ndim < 4 or longest <= _LONGEST_TILE:
        return samples
    height, width = (max(1, round(length * _LONGEST_TILE / longest)) for length in samples.shape[2:])
    reduced = torch.nn.functional.adaptive_avg_pool2d(samples.float(), (height, width))
    return reduced if samples.is_floating_point() else reduced.round().to(samples.dtype)


def _joined(drawn: Tensor, rows: int) -> Tensor:
    """Return tiles (N, C, H, W) in one picture (C, rows * H, W * N / rows), without lines between them."""
    count, channels, height, width = drawn.shape
    table = drawn.view(rows, count // rows, channels, height, width).permute(2, 0, 3, 1, 4)
    return table.reshape(channels, rows * height, width * (count // rows))


def names_beyond(trained: TrainedGenerator, shown: Sequence[object]) -> int:
    """Return how many classes are not among those shown."""
    condition = trained.spec.condition
    return max(0, condition - len(shown)) if isinstance(condition, int) else 0
