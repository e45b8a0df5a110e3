"""Trained generators: what can be drawn with one, and how it is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancore.config.find import read_component
from gancore.config.run import RunConfig
from gancore.contracts import Shape, Spec
from gancore.errors import ConfigError, unknown_name
from gancore.exporters import Exporter
from gancore.sampling.draw import (
    CHUNK,
    DrawnSamples,
    SampleStream,
    checked_conditions,
    chunk_latents,
    condition_of_chunk,
    generate,
    truncates_styles,
)
from gancore.sampling.export import Exported, export
from gancore.sampling.latents import check_truncation, checked_latents, draw_latents, seed_latents
from gancore.training.batchnorm import NO_STATISTICS, batchnorms_of, refresh
from gancore.utils.random import derive_seed
from gancore.utils.sample_format import SampleFormat

_MOST_DIGITS = 18


@dataclass(frozen=True, repr=False)
class TrainedGenerator:
    """A trained generator from a checkpoint.

    `generator` is the network, on `device`; `config` is that of its run, `spec` what it was built for, `step` the step
    of its weights. `sample_format`: how samples are stored. `averaged`: whether the weights are an average (EMA).
    `half_life_kimg`: its half-life; None for current weights and for a schedule. `classes`: names of the labels.
    `class_counts`: training samples of each class, empty if unknown. `columns`: names of the values of a vector, empty
    without names. `path`: the checkpoint. `digest`: its SHA-256. `warnings` name newer checkpoints that are not valid,
    and say where the installed plugins differ from those that it was made with. `about` is what the checkpoint says of
    itself: `config`, `data_format`, `progress`, `made_with`, `origin`.
    """

    generator: nn.Module
    config: RunConfig
    spec: Spec
    sample_format: SampleFormat
    step: int
    device: torch.device
    averaged: bool
    path: Path
    digest: str
    classes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    half_life_kimg: float | None = None

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        half_life = "" if self.half_life_kimg is None else f" (half-life {self.half_life_kimg:g} kimg)"
        weights = f"averaged weights{half_life}" if self.averaged else "current weights"
        return f"<gancore.TrainedGenerator {self.path}: samples of {shape}, step {self.step:,}, {weights}>"

    @property
    def truncates_styles(self) -> bool:
        """Whether truncation moves styles toward their mean, as the generator's method `truncated` does it.

        Otherwise truncation multiplies latents; see `gancore.truncate`.
        """
        return truncates_styles(self.generator)

    @property
    def shape(self) -> Shape:
        """The shape of a sample."""
        return self.spec.shape

    def sample(
        self,
        count: int,
        seed: int = 0,
        label: int | str | None = None,
        conditions: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Return samples (N, *shape) as the data is stored, on the CPU; sample i depends only on seed, i and condition.

        `label`, a number in 0..K-1 or a name, asks a generator that is conditional on classes for one class.
        `conditions` gives one to each sample: labels (N,), or tensors (N, *condition) as the dataset stores them; a
        single one, of shape condition, is used for all. `truncation` in 0..1 gives more typical, less diverse samples:
        latents are multiplied by it, or styles moved toward their mean if `truncates_styles`; 1 changes nothing.
        A notebook shows the result as a picture.
        Raises ConfigError for any other label or condition, NumericsError when a sample is not finite.
        """
        stream = self.stream(count, seed, label, conditions, truncation)
        return torch.cat(list(stream)).as_subclass(DrawnSamples)

    def stream(
        self,
        count: int,
        seed: int = 0,
        label: int | str | None = None,
        conditions: Tensor | None = None,
        truncation: float = 1.0,
    ) -> SampleStream:
        """Return the samples of `sample`, to be drawn in chunks of 64: iterate over it, or pass it to `save_samples`.

        Any number of samples takes the memory of one chunk. Raises ConfigError as `sample` does; iterating raises
        NumericsError when a sample is not finite.
        """
        if count < 1:
            raise ConfigError(f"the number of samples must be at least 1; received {count}")
        conditions = self._checked(conditions, label, count)
        check_truncation(truncation)

        def chunk(start: int) -> Tensor:
            latents, noise_seed = chunk_latents(self.config.latent, seed, start)
            wanted = condition_of_chunk(self.spec.condition, conditions, start)
            return self._generate(latents, wanted, noise_seed, truncation)

        return self._stream(count, chunk, CHUNK)

    def seed_latents(self, seeds: Sequence[int]) -> Tensor:
        """Return a latent per seed (N, Z): that of sample 0 under the seed, as `gancore sample --seeds` has them."""
        return seed_latents(self.config.latent, seeds)

    def generate(
        self,
        latents: Tensor,
        conditions: Tensor | None = None,
        noise_seed: int = 0,
        *,
        label: int | str | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Return the samples (N, *shape) of latents (N, Z), as the data is stored, on the CPU.

        The generator makes one at a time. So the bits of a sample depend only on its latent, its condition and
        `noise_seed`, the seed of what the generator itself draws; `sample` makes 64 at once, which may round otherwise.
        `conditions`, `label` and `truncation` are as in `sample`; a run that is conditional on classes draws all in
        turn without them. A notebook shows the result as a picture.
        Raises ConfigError for other latents or conditions, NumericsError when a sample is not finite.
        """
        stream = self.stream_latents(latents, conditions, noise_seed, label=label, truncation=truncation)
        return torch.cat(list(stream)).as_subclass(DrawnSamples)

    def stream_latents(
        self,
        latents: Tensor,
        conditions: Tensor | None = None,
        noise_seed: int = 0,
        *,
        label: int | str | None = None,
        truncation: float = 1.0,
    ) -> SampleStream:
        """Return the samples of `generate`, to be drawn one by one: iterate over it, or pass it to `save_samples`.

        Raises ConfigError as `generate` does; iterating raises NumericsError when a sample is not finite.
        """
        latents = checked_latents(latents, self.config.latent.dim)
        conditions = self._checked(conditions, label, len(latents))
        check_truncation(truncation)
        seed = derive_seed(noise_seed, "latents")

        def chunk(start: int) -> Tensor:
            wanted = condition_of_chunk(self.spec.condition, conditions, start, 1)
            return self._generate(latents[start : start + 1], wanted, seed, truncation)

        return self._stream(len(latents), chunk, 1)

    def _checked(self, conditions: Tensor | None, label: int | str | None, count: int) -> Tensor | None:
        """Return the conditions (count, …), None for those by default. Raise ConfigError if they do not fit."""
        if label is not None and conditions is not None:
            raise ConfigError("label and conditions cannot be used together", "leave one of them out")
        if label is not None:
            conditions = torch.tensor(self.class_number(label))
        if conditions is not None:
            return checked_conditions(self.spec.condition, conditions, count)
        condition_of_chunk(self.spec.condition, None, 0)  # raises if tensors are needed
        return None

    def _generate(self, latents: Tensor, conditions: Tensor | None, noise_seed: int, truncation: float) -> Tensor:
        return generate(
            self.generator,
            latents,
            conditions,
            noise_seed=noise_seed,
            device=self.device,
            sample_format=self.sample_format,
            truncation=truncation,
        )

    def _stream(self, count: int, chunk: Callable[[int], Tensor], chunk_size: int) -> SampleStream:
        dtype: torch.dtype = getattr(torch, self.sample_format.dtype)
        limits = self.sample_format.value_range
        return SampleStream(count, self.shape, dtype, chunk, self.columns, limits, chunk_size)

    def export(self, exporter: Exporter | str, out: Path | str, /, **options: object) -> Exported:
        """Write the generator in a form that works without gancore, such as `pt2` or `onnx`, to a new path.

        `options` are the fields of the exporter. Raises ConfigError for an unknown exporter or option, a missing
        package, a path that exists, or a generator that cannot be exported; StorageError when it cannot be written.
        """
        if isinstance(exporter, Exporter) and options:
            raise ConfigError(
                "options of an exporter are set when it is made", "give its name instead, or set them there"
            )
        named = exporter if isinstance(exporter, Exporter) else {"name": exporter, **options}
        made = read_component(Exporter, named)  # type: ignore[type-abstract]  # only validated against
        return export(self, made, Path(out))

    @torch.no_grad()
    def refresh_batchnorm(self, count: int = 4096, conditions: Tensor | None = None) -> None:
        """Estimate the running statistics of batch normalization anew, from `count` samples with the present weights.

        Those of an average of weights (EMA) are averages over training, and need not fit the averaged weights. Below
        `training.freeze` they stay as they are. `conditions` (M, …) are as in `sample`, and repeated.

        Raises ConfigError for a generator without statistics to estimate.
        """
        if conditions is not None:
            given = checked_conditions(self.spec.condition, conditions, len(conditions) if conditions.ndim else 1)
            conditions = given[torch.arange(count) % len(given)]
        norms = batchnorms_of(self.generator, self.config.training.freeze)
        if not norms:
            problem = "training.freeze keeps all statistics of batch normalization in the generator"
            raise ConfigError(
                problem if batchnorms_of(self.generator) else NO_STATISTICS, "leave --refresh-batchnorm out"
            )
        seed = derive_seed(0, "batch normalization")
        inputs = (
            (
                draw_latents(self.config.latent, seed, start, start + CHUNK),
                condition_of_chunk(self.spec.condition, conditions, start),
            )
            for start in range(0, count, CHUNK)
        )
        refresh(self.generator, norms, inputs, self.device)

    def class_name(self, label: int | str | None) -> str | None:
        """Return the name of a class that is given by number or by name; None for no class. Raises as `sample` does."""
        number = self.class_number(label)
        if number is None:
            return None
        return self.classes[number] if number < len(self.classes) else str(number)

    def class_number(self, label: int | str | None) -> int | None:
        """Return the number of a class that is given by number or by name; None for no class. Raises as `sample` does.

        Of text, a name wins: with the classes "1" and "2", "1" is number 0.
        """
        if label is None:
            return None
        count = self.spec.condition
        if not isinstance(count, int):
            kind = "not conditional" if count is None else "conditional on tensors, not on classes"
            hint = "leave --class out" if count is None else "use --condition FILE instead of --class"
            raise ConfigError(f"the run is {kind}; received class {label}", hint)
        if isinstance(label, str) and label in self.classes:
            return self.classes.index(label)
        is_number = isinstance(label, int) or (label.isdecimal() and len(label) <= _MOST_DIGITS)
        number = int(label) if is_number else None
        hint = f"use a name, or 0..{count - 1}" if self.classes else f"use 0..{count - 1}"
        if number is None:
            raise ConfigError(unknown_name("class", str(label), self.classes, in_order=True), hint)
        if not 0 <= number < count:
            names = f". Known: {', '.join(self.classes)}" if self.classes else ""
            raise ConfigError(f"the class must be in 0..{count - 1}; received {label}{names}", hint)
        return number
