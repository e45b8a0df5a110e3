"""Samples in the order and the grid of a file: seeds, classes as rows, walks between latents, and edited latents.

    trained = gancore.load("runs/0001")
    arranged = gancore.arrange(trained, gancore.SampleOptions(seeds=range(5), labels=["3", "7"]))
    arranged.save("classes.png")

`gancore sample` draws the same for `--seeds 0-4 --class 3 --class 7`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gancore.errors import ConfigError
from gancore.sampling.animation import ANIMATED, PictureStyle
from gancore.sampling.directions import find_directions, move
from gancore.sampling.draw import SampleStream, checked_conditions
from gancore.sampling.grid import Layout
from gancore.sampling.latents import checked_latents, draw_latents, interpolate, seed_latents, truncate
from gancore.sampling.trained import TrainedGenerator
from gancore.sampling.write import written
from gancore.sampling.writers import Form

_COUNT = 64
"""Samples by default, without a grid."""
_COUNT_PER_CLASS = 8
"""Samples of each of several classes by default, without a grid."""
_FRAMES = 60
"""Frames of a walk by default, without a grid."""


@dataclass(frozen=True, eq=False)
class SampleOptions:
    """What to draw with a generator, as the options of `gancore sample` say it.

    The latents are `count` ones of `seed`, or the first one of each of `seeds`, or `latents` (N, Z), or those of a walk
    through the seeds in `interpolate` and back, in `frames` steps. They are multiplied by `truncation`, and then moved
    along editing directions by `moves`; see `truncate` and `move`. A generator that truncates styles does so last.
    Each of several `labels`, numbers or names, has all of them. `conditions` are one (*condition), or one for each
    sample (N, *condition). `grid` are rows and columns; without other numbers it says how many samples there are, and
    with them its last places may stay empty.
    """

    count: int | None = None
    seed: int = 0
    seeds: Sequence[int] | None = None
    latents: Tensor | None = None
    interpolate: Sequence[int] | None = None
    frames: int | None = None
    labels: Sequence[int | str] = ()
    conditions: Tensor | None = None
    truncation: float = 1.0
    moves: Mapping[int, float] = field(default_factory=dict)
    grid: tuple[int, int] | None = None

    @property
    def of_one_seed(self) -> bool:
        """Whether the samples are those of `seed`."""
        return self.seeds is None and self.latents is None and self.interpolate is None

    @property
    def cells(self) -> int:
        """The number of samples that the grid shows; 0 without a grid."""
        rows, columns = self.grid or (0, 0)
        return rows * columns


@dataclass(frozen=True)
class ArrangedSamples:
    """Samples in the order of the file, the grid that shows them, and how many are in a frame of an animation."""

    stream: SampleStream
    grid: tuple[int, int] | None
    per_frame: int

    def style(self, real: Tensor | None = None, upscale: int | None = None, fps: float | None = None) -> PictureStyle:
        """Return how a file shows the samples; the arguments are those of `save_samples`."""
        return PictureStyle(real, Layout(self.grid, upscale), fps, self.per_frame)

    def save(
        self, out: Path | str, real: Tensor | None = None, *, upscale: int | None = None, fps: float | None = None
    ) -> None:
        """Draw and write the samples in their grid, as `save_samples` does. Raises as it does."""
        for _ in written(self.stream, Path(out), self.style(real, upscale, fps)):
            pass


def arrange(trained: TrainedGenerator, options: SampleOptions, form: Form = "picture") -> ArrangedSamples:
    """Return the samples that options ask for, in the order of a file of this form. They are drawn when it is written.

    Latents have two axes: F frames of T samples. The frames are those of a walk. Otherwise each frame of an animation
    has one sample, and a picture is one frame. Several classes repeat all of them: they are rows.
    Raises ConfigError for options that fit neither each other nor the generator.
    """
    for names in (("seeds", "latents", "interpolate"), ("labels", "conditions")):
        given = [name for name in names if _has_items(getattr(options, name))]
        if len(given) > 1:
            raise ConfigError(f"{given[0]} and {given[1]} cannot be used together", "leave one of them out")
    if options.count is not None and options.count < 1:
        raise ConfigError(f"count must be at least 1; received {options.count}")
    return SampleRequest(trained, options, form).arranged()


def _has_items(given: Sequence[object] | Tensor | None) -> bool:
    """Return whether an option is given, and not empty. A tensor without axes is one item, such as a class."""
    if isinstance(given, Tensor):
        return given.numel() > 0
    return given is not None and len(given) > 0


@dataclass(frozen=True)
class SampleRequest:
    """What is asked of a generator; see `arrange`."""

    trained: TrainedGenerator
    options: SampleOptions
    form: Form

    @property
    def animated(self) -> bool:
        """Whether the samples are frames of an animation."""
        return self.form in ANIMATED

    def arranged(self) -> ArrangedSamples:
        """Return what to draw."""
        options, trained = self.options, self.trained
        labels = self._labels()
        if options.of_one_seed and not options.moves and len(labels) < 2:
            label = labels[0] if labels else None
            stream = trained.stream(self._count(), options.seed, label, options.conditions, options.truncation)
            return ArrangedSamples(stream, options.grid, options.cells or 1)
        return self._in_order(self._edited(self._latents()), labels)

    def _labels(self) -> list[int]:
        numbers = [self.trained.class_number(label) for label in self.options.labels]
        return [number for number in numbers if number is not None]

    def _classes(self) -> int:
        return max(1, len(self.options.labels))

    def _has_many_conditions(self) -> bool:
        given = self.options.conditions
        shape = () if isinstance(self.trained.spec.condition, int) else self.trained.spec.condition
        return given is not None and given.ndim > 0 and given.shape != shape

    def _count(self) -> int:
        """Return the number of latents: in total, or those that walk at once. Each class has all of them."""
        options = self.options
        if options.count is not None:
            return options.count
        if options.conditions is not None and self._has_many_conditions():
            return len(options.conditions)
        is_walk = options.interpolate is not None
        if options.cells and self.animated == is_walk:
            return max(1, options.cells // self._classes())
        if is_walk:
            return 1
        return _COUNT if self._classes() == 1 else _COUNT_PER_CLASS

    def _latents(self) -> Tensor:
        """Return the latents (F, T, Z)."""
        options, settings = self.options, self.trained.config.latent
        if options.interpolate is not None:
            if min(options.interpolate, default=-1) < 0:
                raise ConfigError(f"interpolate has seeds of at least 0; received {list(options.interpolate)[:8]}")
            count = self._count()
            keys = torch.stack([draw_latents(settings, seed, 0, count) for seed in options.interpolate])
            in_grid = 0 if self.animated else options.cells // (self._classes() * count)
            frames = options.frames or in_grid or _FRAMES
            walks = [interpolate(keys[:, number], frames, settings.distribution) for number in range(count)]
            return torch.stack(walks, dim=1)
        if options.seeds is not None:
            latents = seed_latents(settings, options.seeds)
        elif options.latents is not None:
            latents = checked_latents(options.latents, settings.dim)
        else:
            latents = draw_latents(settings, options.seed, 0, self._count())
        return latents.unsqueeze(1 if self.animated else 0)

    def _edited(self, latents: Tensor) -> Tensor:
        """Return the latents truncated, unless the generator does that itself, and then moved."""
        if not self.trained.truncates_styles:
            latents = truncate(latents, self.options.truncation)
        if self.options.moves:
            latents = move(find_directions(self.trained), latents, self.options.moves)
        return latents

    def _in_order(self, latents: Tensor, labels: list[int]) -> ArrangedSamples:
        """Return the samples of latents (F, T, Z): by frames in an animation, else rows of classes and walks."""
        frames, count, _ = latents.shape
        numbers = torch.arange(frames), torch.arange(self._classes()), torch.arange(count)
        if self.animated:
            frame, label, number = torch.cartesian_prod(*numbers).T
        else:
            label, number, frame = torch.cartesian_prod(*numbers[1:], numbers[0]).T
        is_walk = self.options.interpolate is not None
        conditions = self._conditions(count if is_walk else frames * count)
        if labels:
            conditions = torch.tensor(labels)[label]
        elif conditions is not None:
            conditions = conditions[number if is_walk else number + frame]  # one of both is 0
        truncation = self.options.truncation if self.trained.truncates_styles else 1.0  # else it is in the latents
        stream = self.trained.stream_latents(latents[frame, number], conditions, truncation=truncation)
        rows = self._classes() * (1 if self.animated or not is_walk else count)
        grid = self._grid(rows, count if self.animated or not is_walk else frames)
        per_frame = self._classes() * count if is_walk or labels[1:] else self.options.cells or 1
        return ArrangedSamples(stream, grid, per_frame)

    def _conditions(self, count: int) -> Tensor | None:
        """Return the conditions of this many latents; None for a run without conditions."""
        condition, given = self.trained.spec.condition, self.options.conditions
        if given is None:
            return torch.arange(count) % condition if isinstance(condition, int) else None
        if not self._has_many_conditions():
            return checked_conditions(condition, given, count)
        if len(given) != count:
            raise ConfigError(
                f"{len(given)} conditions do not fit {count} samples", "give one for all samples, or one for each"
            )
        return given

    def _grid(self, rows: int, columns: int) -> tuple[int, int] | None:
        """Return the grid that shows this many rows, which classes and walks fill."""
        given = self.options.grid
        if given and rows > 1 and given != (rows, columns):
            raise ConfigError(
                f"the {rows} classes, or walks, are the rows of a picture; received a grid of {given[0]} x {given[1]}",
                f"use {rows} x {columns}",
            )
        has_rows = rows > 1 and len(self.trained.shape) > 1 and (self.animated or self.form == "picture")
        return given or ((rows, columns) if has_rows else None)
