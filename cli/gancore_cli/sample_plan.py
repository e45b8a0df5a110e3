"""What `sample` draws: the latents and conditions of all samples, in the order of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gancore.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.sampling.draw import SampleStream
    from gancore.sampling.load import TrainedGenerator
    from gancore.sampling.write import Form
    from gancore_cli.sample_options import Wanted

_USUAL, _PER_CLASS, _FRAMES = 64, 8, 60


@dataclass(frozen=True)
class Plan:
    """Samples in the order of the file, the grid that shows them, and how many are in a frame of an animation."""

    stream: SampleStream
    grid: tuple[int, int] | None
    per_frame: int


@dataclass(frozen=True)
class Request:
    """What is asked of a generator. `conditions` are one (*condition), or (N, *condition) for as many samples.

    Latents have two axes: F frames of T samples. With --interpolate the frames are those of the walk. Otherwise each
    frame of an animation has one sample, and a picture is one frame. Several classes repeat all of them.
    """

    trained: TrainedGenerator
    wanted: Wanted
    conditions: Tensor | None
    form: Form

    @property
    def animated(self) -> bool:
        """Whether the samples are frames of an animation."""
        return self.form in ("webp", "gif", "mp4")

    def plan(self) -> Plan:
        """Return what to draw. Raise ConfigError for options that do not fit, DataError for a wrong file of latents."""
        wanted, trained = self.wanted, self.trained
        labels = self._labels()
        if wanted.of_one_seed and not wanted.moves and len(labels) < 2:
            label = labels[0] if labels else None
            stream = trained.stream(self._count(), wanted.seed, label, self.conditions, wanted.truncation)
            return Plan(stream, wanted.grid, self.wanted.cells or 1)
        return self._arranged(self._edited(self._latents()), labels)

    def _labels(self) -> list[int]:
        numbers = [self.trained.class_number(label) for label in self.wanted.labels]
        return [number for number in numbers if number is not None]

    def _classes(self) -> int:
        return max(1, len(self.wanted.labels))

    def _has_many_conditions(self) -> bool:
        return self.conditions is not None and self.conditions.shape != self.trained.spec.condition

    def _count(self) -> int:
        """Return the number of latents: in total, or those that walk at once. Each class has all of them."""
        if self.wanted.count is not None:
            return self.wanted.count
        if self.conditions is not None and self._has_many_conditions():
            return len(self.conditions)
        is_walk = self.wanted.interpolate is not None
        if self.wanted.cells and self.animated == is_walk:
            return max(1, self.wanted.cells // self._classes())
        return 1 if is_walk else _USUAL if self._classes() == 1 else _PER_CLASS

    def _latents(self) -> Tensor:
        """Return the latents (F, T, Z)."""
        import torch

        from gancore.sampling.latents import draw_latents, interpolate, parse_seeds, read_latents, seed_latents

        wanted, settings = self.wanted, self.trained.config.latent
        if wanted.interpolate is not None:
            count = self._count()
            keys = torch.stack([draw_latents(settings, seed, 0, count) for seed in parse_seeds(wanted.interpolate)])
            in_grid = 0 if self.animated else self.wanted.cells // (self._classes() * count)
            frames = wanted.frames or in_grid or _FRAMES
            walks = [interpolate(keys[:, number], frames, settings.distribution) for number in range(count)]
            return torch.stack(walks, dim=1)
        if wanted.seeds is not None:
            latents = seed_latents(settings, parse_seeds(wanted.seeds))
        elif wanted.latents is not None:
            latents = read_latents(wanted.latents, settings.dim)
        else:
            latents = draw_latents(settings, wanted.seed, 0, self._count())
        return latents.unsqueeze(1 if self.animated else 0)

    def _edited(self, latents: Tensor) -> Tensor:
        """Return the latents truncated, and then moved."""
        from gancore.sampling.latents import truncate

        latents = truncate(latents, self.wanted.truncation)
        if self.wanted.moves:
            from gancore.sampling.directions import find_directions, move

            latents = move(find_directions(self.trained), latents, self.wanted.moves)
        return latents

    def _arranged(self, latents: Tensor, labels: list[int]) -> Plan:
        """Return the plan of latents (F, T, Z): by frames in an animation, else rows of classes and walks."""
        import torch

        frames, count, _ = latents.shape
        numbers = torch.arange(frames), torch.arange(self._classes()), torch.arange(count)
        if self.animated:
            frame, label, number = torch.cartesian_prod(*numbers).T
        else:
            label, number, frame = torch.cartesian_prod(*numbers[1:], numbers[0]).T
        is_walk = self.wanted.interpolate is not None
        conditions = self._conditions(count if is_walk else frames * count)
        if labels:
            conditions = torch.tensor(labels)[label]
        elif conditions is not None:
            conditions = conditions[number if is_walk else number + frame]  # one of both is 0
        stream = self.trained.stream_latents(latents[frame, number], conditions)
        rows = self._classes() * (1 if self.animated or not is_walk else count)
        grid = self._grid(rows, count if self.animated or not is_walk else frames)
        return Plan(stream, grid, self._classes() * count if is_walk or labels[1:] else self.wanted.cells or 1)

    def _conditions(self, count: int) -> Tensor | None:
        """Return the conditions of this many latents; None for a run without conditions."""
        import torch

        condition = self.trained.spec.condition
        if self.conditions is None:
            return torch.arange(count) % condition if isinstance(condition, int) else None
        if not self._has_many_conditions():
            return self.conditions.expand(count, *self.conditions.shape)
        if len(self.conditions) != count:
            raise ConfigError(
                f"{len(self.conditions)} conditions do not fit {count} samples",
                "give one for all samples, or one for each",
            )
        return self.conditions

    def _grid(self, rows: int, columns: int) -> tuple[int, int] | None:
        """Return the grid that shows this many rows, which classes and walks fill."""
        given = self.wanted.grid
        if given and rows > 1 and given[0] != rows:
            raise ConfigError(
                f"the {rows} classes, or walks, are the rows of a picture; received a grid of {given[0]} x {given[1]}",
                f"use {rows} x {columns}",
            )
        has_rows = rows > 1 and len(self.trained.shape) > 1 and (self.animated or self.form == "picture")
        return given or ((rows, columns) if has_rows else None)
