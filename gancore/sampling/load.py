"""Trained generators, loaded from a checkpoint of a run, a file, or what was exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.manifest import read_manifest
from gancore.checkpoint.state import below
from gancore.config.data_paths import paths_of
from gancore.config.layers import REMOVE, ConfigLayer, merge
from gancore.config.objects import check_objects, with_absent_objects
from gancore.config.requirements import attributed, catalog_for
from gancore.config.run import RunConfig, read_layers, resolve
from gancore.contracts import Dataset, Spec
from gancore.distributed.ranks import choose_device
from gancore.errors import CheckpointError, ConfigError, PluginError, blame
from gancore.sampling.hub import download, is_address
from gancore.sampling.model_folder import is_model_folder, read_model_folder
from gancore.sampling.trained import TrainedGenerator
from gancore.training.ema import EMA, is_average, role_of, roles_of
from gancore.utils.meta import without_memory
from gancore.utils.random import seeded
from gancore.utils.sample_format import SampleFormat, Scales

_ANOTHER = "name another checkpoint"


def load(
    path: Path | str,
    *,
    raw: bool = False,
    best: bool = False,
    ema: float | None = None,
    device: str = "auto",
    catalog: Catalog | None = None,
) -> TrainedGenerator:
    """Return the generator of a run's newest valid checkpoint, of its `best` one, or of one file, ready to sample.

    It may also be a folder that `gancore export --format hub` has written, or one on the Hugging Face Hub,
    `hf://USER/NAME` or `hf://USER/NAME@REVISION`, of which only config.json and model.safetensors are downloaded.
    It has the averaged weights (EMA) if the run kept them, unless `raw`. `ema` is the half-life in kimg of another
    average that the run kept, of `ema.more_kimg`. Only plugins of the catalog can build it, by
    default those that are installed and not switched off; a checkpoint cannot cause an import.
    Raises CheckpointError when there is no valid checkpoint at the path, PluginError when a plugin that it needs is
    missing, ConfigError when it needs Python objects (see `gancore.open`), and for a half-life that the run did not
    keep.
    """
    catalog = catalog or Catalog.installed()
    if raw and ema is not None:
        raise ConfigError("raw and ema cannot be used together", "leave one of them out")
    chosen = _select(path, raw=raw, best=best, ema=ema)
    file, saved = chosen.path, chosen.checkpoint
    if "averaged" in saved.about:  # exported: what it was trained with is not needed, and may have been objects
        catalog = with_absent_objects(catalog, saved.about["config"], str(path))
    check_objects(saved.about["config"], catalog, str(path))
    catalog, warnings = catalog_for(saved.about["made_with"], catalog, str(path), sampling_only=True)
    config = _with_present_data(_resolved(saved, path, catalog), file, catalog)
    spec, sample_format = described_data(saved.about["data_format"], config.latent.dim, config.width_factor)
    role, half_life = _weights_wanted(saved, config, raw=raw, ema=ema)
    generator = _built(config, spec, below(f"{role}.", saved.tensors), catalog, path)
    place = choose_device(device)
    return TrainedGenerator(
        generator=generator.eval().to(place),
        config=config,
        spec=spec,
        sample_format=sample_format,
        step=saved.about["progress"]["step"],
        device=place,
        averaged=is_average(role),
        half_life_kimg=half_life,
        path=file,
        digest=saved.digest,
        classes=tuple(saved.about["data_format"]["classes"]),
        warnings=(*chosen.warnings, *_damage_of_manifest(Path(path)), *warnings),
        columns=tuple(saved.about["data_format"].get("columns", ())),
        class_counts=tuple(saved.about["data_format"].get("class_counts", ())),
        about=saved.about,
    )


def _weights_wanted(
    saved: checkpoint.Checkpoint, config: RunConfig, *, raw: bool, ema: float | None
) -> tuple[str, float | None]:
    """Return the role of the weights that a generator gets, and the half-life in kimg of those that are averages."""
    if "averaged" in saved.about:  # it was exported, and has one set of weights
        return EMA if saved.about["averaged"] else "generator", saved.about["half_life_kimg"]
    if raw or (config.ema is None and ema is None):
        return "generator", None
    role = role_of(config.ema, ema)
    return role, roles_of(config.ema)[role] if config.ema else None


def _built(
    config: RunConfig, spec: Spec, weights: Mapping[str, Tensor], catalog: Catalog, path: Path | str
) -> nn.Module:
    """Return the generator of a config with these weights. Raises CheckpointError if they are those of another."""
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
    return generator


def is_exported(path: Path | str) -> bool:
    """Return whether this is a generator that `gancore export --format hub` has written, or the address of one."""
    return is_address(path) or is_model_folder(Path(path))


def _select(path: Path | str, *, raw: bool, best: bool, ema: float | None) -> checkpoint.Selected:
    """Return the checkpoint of a run, of a file, or what an exported generator holds in its form."""
    path = download(path) if is_address(path) else path
    if is_model_folder(Path(path)):
        return read_model_folder(Path(path), raw=raw, best=best, ema=ema)
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


def described_data(
    about: Mapping[str, Any],  # Any: a checkpoint's
    latent_dim: int,
    width_factor: float = 1.0,
) -> tuple[Spec, SampleFormat]:
    """Return what `data_format` in a checkpoint describes; see `Feed.describe`."""
    condition, value_range, scales = about["condition"], about["value_range"], about.get("scales")
    sample_format = SampleFormat(
        about["dtype"],
        None if value_range is None else tuple(value_range),
        None if scales is None else Scales(**{key: tuple(numbers) for key, numbers in scales.items()}),
    )
    condition = tuple(condition) if isinstance(condition, list) else condition
    spec = Spec(
        tuple(about["shape"]),
        latent_dim,
        condition,
        bounded=sample_format.bounded,
        mirrors=about["mirrors"],
        width_factor=width_factor,
    )
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
