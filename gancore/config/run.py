"""Config of a run: one pydantic model, whose keys are those of the TOML file and of `--set`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, cast

import tomli_w
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from gancore.catalog.catalog import Catalog, plugin_in_errors
from gancore.component import Component, components_in
from gancore.config.duration import Duration
from gancore.config.layers import ConfigLayer, merge, parse_value, read_toml
from gancore.config.messages import problem_messages
from gancore.config.metric_names import name_of, read_labels
from gancore.config.optimizers import OptimizerSettings
from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Regularizer
from gancore.errors import ConfigError, did_you_mean, numbered, unknown_name
from gancore.metrics import Metric
from gancore.observers import Observer
from gancore.settings import BaseSchedule, Schedulable, Settings, error_details, plain

C = TypeVar("C", bound=Component)


def named_by_label(table: Any) -> Any:  # Any: data of a file, checked later
    """Add the label as the default `name`, as in `[regularizers.r1]`."""
    if not isinstance(table, Mapping):
        return table
    return {label: {"name": label, **value} if isinstance(value, Mapping) else value for label, value in table.items()}


Labeled = Annotated[dict[str, C], BeforeValidator(named_by_label)]
"""Type of a field with any number of components of a kind: tables, each under a label that the user chooses."""


class LatentSettings(Settings):
    """Settings of the generator's input noise."""

    dim: int = Field(default=100, ge=1, le=65536, description="length Z of a latent vector")
    distribution: Literal["normal", "uniform"] = Field(
        default="normal", description="standard normal, or uniform in [-1, 1]"
    )


class OptimizerPair(Settings):
    """Settings of both players' optimizers."""

    generator: OptimizerSettings = OptimizerSettings()
    discriminator: OptimizerSettings = OptimizerSettings()


PrecisionName = Literal["auto", "fp32", "tf32", "bf16"]
"""Precision of matrix products; see `gancore.training.precision`."""


_WORKERS, _THREADS = (0, 64), (1, 1024)
"""The smallest and the largest number."""


SizeName = Literal["small", "base", "large"]
"""Name of a multiplier of the networks' widths."""

_SIZES: Mapping[SizeName, float] = {"small": 0.5, "base": 1.0, "large": 2.0}
_WIDTH_FACTORS = (0.05, 16.0)
"""The smallest and the largest multiplier."""


class TrainingSettings(Settings):
    """Settings of a training step."""

    discriminator_steps: int = Field(default=1, ge=1, le=100, description="updates of D per step")
    generator_steps: int = Field(default=1, ge=1, le=100, description="updates of G per step, after those of D")
    fakes: Literal["shared", "fresh"] = Field(
        default="shared",
        description="fake images of G's first update: those of D's last update, or newly generated ones",
    )
    conditional: bool = Field(
        default=False, description="pass the labels or conditions of the dataset to both networks"
    )
    data: Literal["auto", "device", "stream"] = Field(
        default="auto", description="keep the whole dataset on the device, or stream it; auto: on the device if it fits"
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=_WORKERS[0], le=_WORKERS[1])] = Field(
        default="auto",
        description="worker processes that load streamed data; auto: the number with which the first steps are fastest",
    )
    accumulate: int = Field(
        default=1, ge=1, le=65536, description="micro-batches per batch, to use less memory (gradient accumulation)"
    )
    precision: PrecisionName = Field(
        default="fp32",
        description="precision of matrix products; auto: bf16 for images where a few steps in it are a tenth faster",
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=_THREADS[0], le=_THREADS[1])] = Field(
        default="auto",
        description="threads that compute a step on the CPU; auto: as few as a few steps show to be fast",
    )
    channels_last: bool | None = Field(
        default=None, description="channels_last memory format for images; absent: on CUDA with bf16 or tf32"
    )
    sync_batchnorm: bool = Field(
        default=False, description="batch normalization over the batches of all processes, on CUDA"
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="parameters that are not trained, by the first components of their names in a checkpoint, such as "
        "discriminator.body.0",
    )
    cuda_graph: bool = Field(
        default=False, description="experimental: run a step as one CUDA graph if possible; it has not run on a GPU yet"
    )
    clip_norm: Schedulable | None = Field(
        default=None, gt=0, description="maximum norm of a player's gradient over all its weights"
    )
    on_nonfinite: Literal["stop", "skip", "rollback"] = Field(
        default="stop",
        description="at NaN or infinity: stop the run, skip the step, or roll back to the newest checkpoint",
    )
    nonfinite_limit: int = Field(
        default=3, ge=0, description="maximum number of skipped steps or rollbacks before the run stops"
    )

    @field_validator("workers", "threads", mode="wrap")
    @classmethod
    def _read_number(
        cls, value: object, read: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Literal["auto"] | int:
        """Return the number or `auto`. Raise one error, where pydantic raises one for each type of the union."""
        try:
            return cast(Literal["auto"] | int, read(value))
        except ValidationError:
            low, high = _WORKERS if info.field_name == "workers" else _THREADS
            raise ValueError(f"must be a number from {low} to {high}, or auto") from None


class EMASettings(Settings):
    """Settings of the exponential moving average (EMA) of the generator, from which samples are drawn."""

    half_life_kimg: Schedulable = Field(
        default=10.0,
        gt=0,
        description="thousands of real images after which the contribution of old weights has halved",
    )
    ramp_up: float | None = Field(
        default=None, gt=0, description="limit the half-life to this fraction of the images seen so far"
    )
    more_kimg: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(),
        description="further half-lives, each of an average of its own, to choose from later with --ema",
    )
    refresh_batchnorm: bool = Field(
        default=False,
        description="estimate batch normalization anew for averaged weights before they are sampled or saved",
    )

    @model_validator(mode="after")
    def _check_half_lives(self) -> Self:
        if len(set(self.half_lives)) < len(self.half_lives):
            message = "each half-life must be given once, that of half_life_kimg included"
            problem = error_details("ema", message, ("more_kimg",), list(self.more_kimg))
            raise ValidationError.from_exception_data(type(self).__name__, [problem])
        return self

    @property
    def half_lives(self) -> tuple[float | None, ...]:
        """The half-lives of all averages in kimg, that of `half_life_kimg` first; None if it is a schedule."""
        first = self.half_life_kimg
        return (None if isinstance(first, BaseSchedule) else float(first), *self.more_kimg)


class CheckpointSettings(Settings):
    """Settings of checkpoints. One is always saved at step 0 and one at the end."""

    every_steps: int = Field(default=1000, ge=1, description="steps between checkpoints")
    keep: int = Field(default=2, ge=2, description="number of newest checkpoints to keep")
    best: str | None = Field(
        default=None,
        description="metric of the run, such as fd-classifier, by which the best checkpoint is kept as well",
    )


class LogSettings(Settings):
    """Settings of the log."""

    every_steps: int = Field(default=100, ge=1, description="steps between lines of the log")


class ReportSettings(Settings):
    """Settings of the page about the run that training writes, at its end too."""

    every_kimg: float = Field(default=100.0, gt=0, description="thousands of real images between pages")


class SampleSettings(Settings):
    """Settings of sample images, which are drawn from the same noise each time."""

    every_kimg: float | None = Field(
        default=None,
        gt=0,
        description="thousands of real images between sample images; absent: 100, and in a run in minutes a 20th of "
        "it, or longer, so that they take at most a tenth of its time",
    )
    count: int = Field(default=64, ge=1, le=10000, description="samples per image")


class EvaluateSettings(Settings):
    """Settings of evaluation during training: the metrics of the run, and the diversity of samples."""

    every_kimg: float = Field(default=100.0, gt=0, description="thousands of real images between evaluations")
    samples: int | None = Field(
        default=None, ge=2, description="number of generated images for metrics; absent: the default of the dataset"
    )
    on_collapse: Literal["warn", "stop", "ignore"] = Field(
        default="warn", description="action if the samples have lost their diversity (mode collapse)"
    )


class Options(Settings):
    """Config of a run without its components: what the loop needs to train any two modules on any dataset."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="seed of all randomness in the run")
    duration: str = Field(
        default="50 epochs", description="length of the run: a number of epochs, steps, kimg or minutes"
    )
    batch_size: int = Field(default=64, ge=1, le=65536, description="real images per update of D")
    size: SizeName | Annotated[float, Field(ge=_WIDTH_FACTORS[0], le=_WIDTH_FACTORS[1])] = Field(
        default="base",
        description="multiplier of the widths of both networks: small is 0.5, base 1, large 2",
    )
    latent: LatentSettings = LatentSettings()
    optimizer: OptimizerPair = OptimizerPair()
    training: TrainingSettings = TrainingSettings()
    ema: EMASettings | None = Field(
        default=None, description="exponential moving average of the generator; absent: no average"
    )

    if TYPE_CHECKING:  # tables as a file has them are valid too

        def __init__(  # the keys of the config
            self,
            *,
            seed: int = ...,
            duration: str = ...,
            batch_size: int = ...,
            size: SizeName | float = ...,
            latent: LatentSettings | Mapping[str, object] = ...,
            optimizer: OptimizerPair | Mapping[str, object] = ...,
            training: TrainingSettings | Mapping[str, object] = ...,
            ema: EMASettings | Mapping[str, object] | None = ...,
        ) -> None: ...

    @field_validator("duration")
    @classmethod
    def _check_duration(cls, text: str) -> str:
        Duration.parse(text)
        return text

    @field_validator("size", mode="wrap")
    @classmethod
    def _read_size(cls, value: object, read: ValidatorFunctionWrapHandler) -> SizeName | float:
        """Return the size by its name if it has one, so that equal sizes are equal values."""
        try:
            size = cast(SizeName | float, read(value))
        except ValidationError:
            low, high = _WIDTH_FACTORS
            names = ", ".join(_SIZES)
            raise ValueError(f"must be {names}, or a multiplier of widths from {low:g} to {high:g}") from None
        return next((name for name, factor in _SIZES.items() if size == factor), size)

    @property
    def width_factor(self) -> float:
        """The multiplier of the widths of both networks, which `size` names."""
        return self.size if isinstance(self.size, float) else _SIZES[self.size]

    @property
    def total(self) -> Duration:
        """The duration, parsed."""
        return Duration.parse(self.duration)


class RunConfig(Options):
    """Config of a whole run. A new kind of component needs a class, a hook, and one line here."""

    # An alias, since a field named `schema` would hide a method of pydantic.
    form: Literal[1] = Field(default=1, alias="schema", description="version of the config format")
    generator: Generator
    discriminator: Discriminator
    loss: Loss
    dataset: Dataset
    regularizers: Labeled[Regularizer] = Field(
        default={}, description="gradient penalties and other regularizers of either player"
    )
    augmentations: Labeled[Augmentation] = Field(
        default={}, description="augmentations of the images that D sees, applied in the order of the labels"
    )
    metrics: Annotated[Labeled[Metric], BeforeValidator(read_labels)] = Field(
        default={}, description="metrics that are computed during training"
    )
    observers: Labeled[Observer] = Field(
        default={}, description="receivers of log lines, images and files, such as tensorboard"
    )
    checkpoint: CheckpointSettings = CheckpointSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    log: LogSettings = LogSettings()
    report: ReportSettings | None = Field(
        default=None, description="page about the run, see gancore report; absent: training writes none"
    )
    sample: SampleSettings = SampleSettings()

    def components(self) -> list[Component]:
        """Return all components of the run, nested ones too, in the order of the keys."""
        return list(components_in(self))

    def named_metrics(self) -> dict[str, Metric]:
        """Return the metrics by their names in results, such as `fd-classifier`."""
        return {name_of(label, metric): metric for label, metric in self.metrics.items()}

    @model_validator(mode="after")
    def _check_metric_names(self) -> Self:
        names, best, problems = [name_of(*item) for item in self.metrics.items()], self.checkpoint.best, []
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            message = f"two tables have the name {duplicates[0]!r} in results; change the label of one"
            problems.append(error_details("metrics", message, ("metrics",), duplicates[0]))
        if best is not None and best not in names:
            message = unknown_name("metric of the run", best, names)
            problems.append(error_details("metrics", message, ("checkpoint", "best"), best))
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self

    def to_data(self, catalog: Catalog) -> dict[str, Any]:  # Any: data of a file
        """Return the resolved config as plain data. `resolve` turns it into an equal config."""
        data: dict[str, Any] = plain(self, catalog.name_of)
        return {"schema": data.pop("schema")} | data

    def to_toml(self, catalog: Catalog) -> str:
        """Return the resolved config as a TOML document that repeats this run."""
        return tomli_w.dumps(self.to_data(catalog))


def read_layers(source: str, catalog: Catalog) -> list[ConfigLayer]:
    """Return the layers of a recipe or of a TOML file, including the recipe that the file names with `recipe`.

    Raises ConfigError if there is no such recipe or file, or the file is not TOML.
    """
    file = Path(source)
    if file.suffix != ".toml":
        if os.path.isfile(file / "config.toml") and source not in {recipe.name for recipe, _ in catalog.recipes()}:
            raise ConfigError(
                f"{source} is a run directory, not a recipe", f"gancore train {quote(str(file / 'config.toml'))}"
            )
        try:
            return [ConfigLayer(f"recipe {source}", catalog.recipe(source).data)]
        except ConfigError as error:
            raise ConfigError(
                f"{error}. There is no file or folder {source!r} either",
                did_you_mean(file, "name a recipe of `gancore recipes`, a TOML file, or the files of your data"),
            ) from error
    data = read_toml(file, "pass a TOML file or the name of a recipe")
    if "rules" in data:
        raise ConfigError(
            f"{source}: rules are for recipes of plugins, and apply to a file that begins with one",
            "write a recipe that has them in place of `rules`, such as: recipe = 'pictures'",
        )
    recipe = data.pop("recipe", None)
    if recipe is None:
        return [ConfigLayer(source, data)]
    if not isinstance(recipe, str):
        raise ConfigError(f"{source}: recipe must be the name of a recipe; received {recipe!r}", "gancore recipes")
    return [ConfigLayer(f"recipe {recipe}", catalog.recipe(recipe).data), ConfigLayer(source, data)]


def resolve(layers: Iterable[ConfigLayer], catalog: Catalog, model: type[RunConfig] = RunConfig) -> RunConfig:
    """Return the config that the layers describe, later ones over earlier ones.

    Raises ConfigError with all wrong keys, types and ranges, each with its path and layer; PluginError if a component
    fails while its fields are read, or as `Catalog.find` does.
    """
    defaults = {
        key: plain(field.default, catalog.name_of)
        for key, field in model.model_fields.items()
        if isinstance(field.default, Settings)
    }
    data, sources = merge([ConfigLayer("defaults", defaults), *layers])
    components = {f"{kind.kind} {c.name!r}": c for kind in catalog.kinds.values() for c, _ in catalog.offers(kind)}
    try:
        with plugin_in_errors(catalog, components):
            return model.model_validate(data, context=catalog)
    except ValidationError as error:
        problems, hint = problem_messages(error, data, sources), _keys_hint(error, data)
    raise numbered("wrong config", problems, hint)


def _keys_hint(error: ValidationError, data: Mapping[str, Any]) -> str:  # Any: data of a file
    """Return the command that shows the keys which are wrong: those of a component, if all of them are."""
    places = [line["loc"] for line in error.errors()]
    tables = {place[0] if len(place) > 1 else "" for place in places}
    if ("dataset",) in places or any(place[0] == "dataset" and place[-1] == "path" for place in places):
        return "name your data with --dataset PATH"
    (table, *others) = tables or {""}
    unnamed = [place[0] for place in places if place[0] in _PARTS and place[1:] in ((), ("name",))]
    if len(unnamed) == len(places):
        return f"gancore list {unnamed[0]}"
    if others:
        return "see the keys with: gancore show run"
    value, kind = data.get(str(table)), str(table)
    if table in _LABELED and len(labels := {place[1] for place in places}) == 1:
        (label,) = labels
        value = value.get(label) if isinstance(value, Mapping) else None
        value = {"name": label, **value} if isinstance(value, Mapping) else None
        kind = kind.removesuffix("s")
        if all(place[2:] in ((), ("name",)) for place in places):
            return f"gancore list {kind}"
    name = value.get("name") if isinstance(value, Mapping) else value
    if table not in {*_PARTS, *_LABELED} or not isinstance(name, str):
        return "see the keys with: gancore show run"
    return f"gancore show {kind} {quote(name)}"


_PARTS = ("generator", "discriminator", "loss", "dataset")
_LABELED = ("regularizers", "augmentations", "observers")
"""Tables of components under labels, which are their names unless they have a `name`."""


def read_dataset(text: str, catalog: Catalog) -> Dataset:
    """Return a dataset by its name, or from an inline TOML table: `{name = "mnist", split = "train"}`.

    Raises ConfigError with all wrong fields.
    """
    table = parse_value(text)
    try:
        return Dataset.model_validate(table, context=catalog)
    except ValidationError as error:
        problems = problem_messages(error, table if isinstance(table, Mapping) else {}, {})
    message = "; ".join(problem.removeprefix("run: ") for problem in problems)
    hint = "use a dataset of `gancore list dataset`, or the path of a file or folder"
    raise ConfigError(f"wrong dataset: {message}", hint)
