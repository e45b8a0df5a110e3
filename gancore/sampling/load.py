"""Trained generators: loaded from a checkpoint, ready to sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.manifest import read_manifest
from gancore.checkpoint.state import below
from gancore.config.data_paths import paths_of
from gancore.config.find import read_component
from gancore.config.layers import REMOVE, ConfigLayer, merge
from gancore.config.objects import check_objects
from gancore.config.requirements import attributed, catalog_for
from gancore.config.run import RunConfig, read_layers, resolve
from gancore.contracts import Dataset, Shape, Spec
from gancore.distributed.ranks import choose_device
from gancore.errors import CheckpointError, ConfigError, PluginError, blame, unknown_name
from gancore.exporters import Exporter
from gancore.sampling.draw import (
    CHUNK,
    DrawnSamples,
    SampleStream,
    checked_conditions,
    chunk_latents,
    condition_of_chunk,
    generate,
)
from gancore.sampling.export import Exported, export
from gancore.sampling.hub import download, is_address
from gancore.sampling.latents import checked_latents, draw_latents, seed_latents, truncate
from gancore.sampling.model_folder import is_model_folder, read_model_folder
from gancore.training.networks import call
from gancore.utils.meta import without_memory
from gancore.utils.random import derive_seed, seeded
from gancore.utils.sample_format import SampleFormat, Scales

_ANOTHER = "name another checkpoint"


@dataclass(frozen=True)
class TrainedGenerator:
    """A trained generator from a checkpoint.

    `spec` is what it was built for, `sample_format` how its samples are stored. `averaged` says whether its weights are
    the EMA; `classes` are the names of its labels, `class_counts` how many training samples each had, empty if that is
    not known, `columns` those of the values of a vector, empty without names;
    `path` is the checkpoint, `digest` its SHA-256; `warnings` name newer checkpoints that are not valid, and say
    where the installed plugins differ from those that it was made with. `about` is what the checkpoint says of itself:
    `config`, `data_format`, `progress`, `made_with`, `origin`.
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
        single one, of shape condition, is used for all. `truncation` in 0..1 is that of `truncate`; 1 changes nothing.
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
        truncate(torch.zeros(1), truncation)  # raises for another number

        def chunk(start: int) -> Tensor:
            latents, noise_seed = chunk_latents(self.config.latent, seed, start)
            wanted = condition_of_chunk(self.spec.condition, conditions, start)
            return self._generate(truncate(latents, truncation), wanted, noise_seed)

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
    ) -> Tensor:
        """Return the samples (N, *shape) of latents (N, Z), as the data is stored, on the CPU.

        The generator makes one at a time. So the bits of a sample depend only on its latent, its condition and
        `noise_seed`, the seed of what the generator itself draws; `sample` makes 64 at once, which may round otherwise.
        `conditions` and `label` are as in `sample`; without them, a run that is conditional on classes draws all in
        turn. A notebook shows the result as a picture.
        Raises ConfigError for other latents or conditions, NumericsError when a sample is not finite.
        """
        stream = self.stream_latents(latents, conditions, noise_seed, label=label)
        return torch.cat(list(stream)).as_subclass(DrawnSamples)

    def stream_latents(
        self,
        latents: Tensor,
        conditions: Tensor | None = None,
        noise_seed: int = 0,
        *,
        label: int | str | None = None,
    ) -> SampleStream:
        """Return the samples of `generate`, to be drawn one by one: iterate over it, or pass it to `save_samples`.

        Raises ConfigError as `generate` does; iterating raises NumericsError when a sample is not finite.
        """
        latents = checked_latents(latents, self.config.latent.dim)
        conditions = self._checked(conditions, label, len(latents))
        seed = derive_seed(noise_seed, "latents")

        def chunk(start: int) -> Tensor:
            wanted = condition_of_chunk(self.spec.condition, conditions, start, 1)
            return self._generate(latents[start : start + 1], wanted, seed)

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

    def _generate(self, latents: Tensor, conditions: Tensor | None, noise_seed: int) -> Tensor:
        return generate(
            self.generator,
            latents,
            conditions,
            noise_seed=noise_seed,
            device=self.device,
            sample_format=self.sample_format,
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

        Those of an average of weights (EMA) are averages over training, and need not fit the averaged weights.
        `conditions` (M, …) are as in `sample`, and repeated. Raises ConfigError for a generator without statistics.
        """
        norms = [part for part in self.generator.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
        if not norms:
            raise ConfigError(
                "the generator has no batch normalization with running statistics", "leave --refresh-batchnorm out"
            )
        if conditions is not None:
            given = checked_conditions(self.spec.condition, conditions, len(conditions) if conditions.ndim else 1)
            conditions = given[torch.arange(count) % len(given)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all chunks
            norm.train()
        for start in range(0, count, CHUNK):
            wanted = condition_of_chunk(self.spec.condition, conditions, start)
            noise = draw_latents(self.config.latent, derive_seed(0, "batch normalization"), start, start + CHUNK)
            with seeded(0, self.device), blame("generator", "in forward()"):
                call(self.generator, noise.to(self.device), None if wanted is None else wanted.to(self.device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

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
        number = label if isinstance(label, int) else int(label) if label.isdecimal() else None
        hint = f"use a name, or 0..{count - 1}" if self.classes else f"use 0..{count - 1}"
        if number is None:
            raise ConfigError(unknown_name("class", str(label), self.classes, in_order=True), hint)
        if not 0 <= number < count:
            names = f". Known: {', '.join(self.classes)}" if self.classes else ""
            raise ConfigError(f"the class must be in 0..{count - 1}; received {label}{names}", hint)
        return number


def load(
    path: Path | str, *, raw: bool = False, best: bool = False, device: str = "auto", catalog: Catalog | None = None
) -> TrainedGenerator:
    """Return the generator of a run's newest valid checkpoint, of its `best` one, or of one file, ready to sample.

    It may also be a folder that `gancore export --format hub` has written, or one on the Hugging Face Hub,
    `hf://USER/NAME` or `hf://USER/NAME@REVISION`, of which only config.json and model.safetensors are downloaded.
    It has the averaged weights (EMA) if the run kept them, unless `raw`. Only plugins of the catalog can build it, by
    default those that are installed and not switched off; a checkpoint cannot cause an import.
    Raises CheckpointError when there is no valid checkpoint at the path, PluginError when a plugin that it needs is
    missing, ConfigError when it needs Python objects (see `gancore.open`).
    """
    catalog = catalog or Catalog.installed()
    chosen = _select(path, raw=raw, best=best)
    file, saved = chosen.path, chosen.checkpoint
    check_objects(saved.about["config"], catalog, str(path))
    catalog, warnings = catalog_for(saved.about["made_with"], catalog, str(path), sampling_only=True)
    config = _with_present_data(_resolved(saved, path, catalog), file, catalog)
    spec, sample_format = described_data(saved.about["data_format"], config.latent.dim)
    classes = tuple(saved.about["data_format"]["classes"])
    averaged = saved.about.get("averaged", config.ema is not None and not raw)
    weights = below("ema." if averaged else "generator.", saved.tensors)
    needed, given = _size_of(config, spec), sum(value.numel() for value in weights.values())
    if needed > given:
        raise CheckpointError(
            f"{path} is of another generator: its config asks for {needed:,} weights, and it holds {given:,}", _ANOTHER
        )
    # The initial weights are replaced at once; they must not advance the random state of the process.
    with attributed(config, catalog), seeded(0), blame(f"generator {config.generator.name!r}", "in build()"):
        generator = config.generator.build(spec)
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is of another generator: {' '.join(str(error).split())}", _ANOTHER) from error
    place = choose_device(device)
    trained = generator.eval().to(place)
    return TrainedGenerator(
        trained,
        config,
        spec,
        sample_format,
        saved.about["progress"]["step"],
        place,
        averaged,
        file,
        saved.digest,
        classes,
        (*chosen.warnings, *_damage_of_manifest(Path(path)), *warnings),
        tuple(saved.about["data_format"].get("columns", ())),
        tuple(saved.about["data_format"].get("class_counts", ())),
        saved.about,
    )


def is_exported(path: Path | str) -> bool:
    """Return whether this is a generator that `gancore export --format hub` has written, or the address of one."""
    return is_address(path) or is_model_folder(Path(path))


def _select(path: Path | str, *, raw: bool, best: bool) -> checkpoint.Selected:
    """Return the checkpoint of a run, of a file, or what an exported generator holds in its form."""
    path = download(path) if is_address(path) else path
    if is_model_folder(Path(path)):
        return read_model_folder(Path(path), raw=raw, best=best)
    return checkpoint.select(Path(path), best=best)


def _damage_of_manifest(run: Path) -> Iterator[str]:
    """Yield a warning if the path is a run whose manifest is damaged."""
    if (run / "config.toml").is_file() and (problem := read_manifest(run).problem):
        yield problem


def _with_present_data(config: RunConfig, file: Path, catalog: Catalog) -> RunConfig:
    """Return the config with the dataset that the run of a checkpoint has now: its data may have moved since."""
    of_run = file.absolute().parent.parent / "config.toml"
    if not paths_of(config.dataset) or file.absolute().parent.name != "checkpoints" or not of_run.is_file():
        return config
    with suppress(ConfigError, PluginError, ValidationError):
        table = merge(read_layers(str(of_run), catalog))[0].get("dataset")
        dataset = Dataset.model_validate(table, context=catalog)
        return config.model_copy(update={"dataset": dataset}) if paths_of(dataset) else config
    return config


def described_data(about: Mapping[str, Any], latent_dim: int) -> tuple[Spec, SampleFormat]:  # Any: a checkpoint's
    """Return what `data_format` in a checkpoint describes; see `Feed.describe`."""
    condition, value_range, scales = about["condition"], about["value_range"], about.get("scales")
    sample_format = SampleFormat(
        about["dtype"],
        None if value_range is None else tuple(value_range),
        None if scales is None else Scales(**{key: tuple(numbers) for key, numbers in scales.items()}),
    )
    condition = tuple(condition) if isinstance(condition, list) else condition
    spec = Spec(tuple(about["shape"]), latent_dim, condition, bounded=sample_format.bounded, mirrors=about["mirrors"])
    return spec, sample_format


def _size_of(config: RunConfig, spec: Spec) -> int:
    """Return the number of weights of a generator, built without memory; 0 if it cannot be built so."""
    with suppress(Exception), without_memory():
        bare = config.generator.build(spec)
        return sum(value.numel() for value in bare.state_dict().values() if value.is_meta)
    return 0


def _resolved(saved: checkpoint.Checkpoint, path: Path | str, catalog: Catalog) -> RunConfig:
    """Return the config of a checkpoint, without metrics and observers if those are not installed."""
    layer = ConfigLayer("checkpoint", saved.about["config"])
    alone = {"metrics": REMOVE, "checkpoint": {"best": REMOVE}, "observers": REMOVE}
    try:
        with suppress(ConfigError, PluginError):
            return resolve([layer], catalog)
        return resolve([layer, ConfigLayer("the GAN alone", alone)], catalog)
    except (ConfigError, PluginError) as error:
        made_with = ", ".join(f"{name} {version}" for name, version in saved.about["made_with"]["plugins"].items())
        raise PluginError(
            f"{path} was made with {made_with}, and the installed versions cannot build it: {error}",
            "install those versions",
        ) from error
