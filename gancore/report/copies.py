"""The training images that are nearest to samples: whether a generator repeats what it was trained on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gancore.evaluation.sources import ReferenceImages
from gancore.report.pictures import Embedded, embed_all
from gancore.sampling.grid import tile_picture, tiles
from gancore.sampling.trained import TrainedGenerator

SHOWN, _NEAREST, _SAMPLES = 6, 4, 64
_REAL = 64
"""Training images whose distances to their nearest other ones are the yardstick."""
_MOST_REAL, _MOST_BYTES, _SECONDS = 60_000, 200_000_000, 4.0
_BYTES = 500_000
_BYTES_AT_ONCE = 64_000_000
_NEARLY = 0.25
"""A sample is nearly a copy below this fraction of the usual distance between training images."""


@dataclass(frozen=True)
class Neighbors:
    """A sample, and the training images nearest to it with their distances, nearest first."""

    sample: Embedded
    nearest: tuple[tuple[Embedded, float], ...]

    @property
    def distance(self) -> float:
        """The distance of the nearest training image."""
        return self.nearest[0][1]


@dataclass(frozen=True)
class Copies:
    """Of `drawn` samples the ones closest to training data, closest first.

    Distances are root mean squares of the differences of values, of which 1 is the largest. `of_samples` is the median
    distance of a sample to the nearest training image, `of_real` that of a training image to its nearest other one,
    both among `compared` of `total` training images. `suspects` is the number of samples nearer than a quarter of
    `of_real`.
    """

    rows: tuple[Neighbors, ...]
    drawn: int
    compared: int
    total: int
    of_samples: float
    of_real: float
    suspects: int

    @property
    def of_copies(self) -> float:
        """The distance below which a sample is nearly a copy."""
        return _NEARLY * self.of_real


def find_copies(
    trained: TrainedGenerator, reference: ReferenceImages, conditions: Tensor | None = None, share: float = 1.0
) -> Copies:
    """Return the samples that are closest to training images, of as many images as a few seconds allow.

    `conditions` (64, …) are those of a generator that is conditional on tensors, `share` is that of the limit of bytes
    (see `share_of`). Raises DataError when the images cannot be read, NumericsError when a sample is not finite.
    """
    samples = trained.sample(_SAMPLES, seed=0, conditions=conditions)
    real = _read(reference)
    low, high = _range(real, trained.sample_format.value_range)

    def flat(stored: Tensor) -> Tensor:
        return ((stored.flatten(1).float() - low) / (high - low)).clamp(0, 1)

    distances, places = _nearest(flat(samples), real, flat, _NEAREST)
    chosen = torch.arange(0, len(real), max(1, len(real) // _REAL))[:_REAL]
    among_real, _ = _nearest(flat(real[chosen]), real, flat, 2)  # the nearest is the image itself
    of_real = float(among_real[:, -1].median())
    order = distances[:, 0].argsort(stable=True)[:SHOWN]
    # One scale for both: without limits, tiles() would take the lowest and the highest value of each.
    drawn = [tile_picture(image) for image in tiles(samples[order], (low, high))]
    near = [tile_picture(image) for image in tiles(real[places[order].flatten()], (low, high))]
    pictures = embed_all([*drawn, *near], share * _BYTES)
    count, per_row = len(order), places.shape[1]
    rows = []
    for row, sample in enumerate(pictures[:count]):
        ours = pictures[count + row * per_row : count + (row + 1) * per_row]
        rows.append(Neighbors(sample, tuple(zip(ours, distances[order[row]].tolist(), strict=True))))
    return Copies(
        tuple(rows),
        len(samples),
        len(real),
        len(reference),
        float(distances[:, 0].median()),
        of_real,
        int((distances[:, 0] < _NEARLY * of_real).sum()),
    )


def _read(reference: ReferenceImages) -> Tensor:
    """Return training images (M, …), random ones if reading all would take too long or too much memory."""
    started = time.perf_counter()
    first = reference.draw(32, seed=0, stream="copies")
    each = (time.perf_counter() - started) / len(first)
    most = min(_MOST_REAL, _MOST_BYTES // max(1, first[0].nbytes), int(_SECONDS / max(each, 1e-9)))
    return first if most <= len(first) else reference.draw(most, seed=0, stream="copies")


def _range(real: Tensor, limits: tuple[float, float] | None) -> tuple[float, float]:
    """Return the values that count as 0 and 1."""
    if real.dtype == torch.uint8:
        return 0.0, 255.0
    low, high = limits or (float(real.min()), float(real.max()))
    return low, high if high > low else low + 1


def _nearest(queries: Tensor, real: Tensor, flat: Callable[[Tensor], Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Return distances and places (Q, K) of the K images of `real` nearest to each query (Q, F), nearest first."""
    best, places = queries.new_full((len(queries), 0), 0.0), torch.zeros(len(queries), 0, dtype=torch.int64)
    step = max(1, _BYTES_AT_ONCE // (4 * queries.shape[1]))  # images that are compared at once, as float32
    for start in range(0, len(real), step):
        found = torch.cdist(queries, flat(real[start : start + step])) / queries.shape[1] ** 0.5
        numbers = torch.arange(start, start + found.shape[1]).expand_as(found)
        best, order = torch.cat([best, found], dim=1).topk(min(count, best.shape[1] + found.shape[1]), largest=False)
        places = torch.cat([places, numbers], dim=1).gather(1, order)
    return best, places
