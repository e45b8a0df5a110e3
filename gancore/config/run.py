"""The run's config: one model, whose keys are the paths of `--set` and the tables of the file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gancore.catalog.catalog import Catalog
from gancore.catalog.discovery import BUILT_IN
from gancore.component import Component, components_in, lookup
from gancore.config import metric_names as naming
from gancore.config import toml
from gancore.config.duration import Duration
from gancore.config.layers import ConfigLayer, inline_table, merge
from gancore.config.messages import sentence
from gancore.config.optimizers import OptimizerSettings
from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Regularizer
from gancore.errors import ConfigError, PluginError, unknown_name
from gancore.metrics import Metric
from gancore.observers import Observer
from gancore.settings import Schedulable, Settings, plain

C = TypeVar("C", bound=Component)


def _named_by_label(table: object) -> object:
    """`[regularizers.r1]` needs no name: its label is one."""
    if not isinstance(table, Mapping):
        return table
    return {label: {"name": label, **value} if isinstance(value, Mapping) else value for label, value in table.items()}


Labeled = Annotated[dict[str, C], BeforeValidator(_named_by_label)]
"""Components of a kind of which a run may have many: a table of tables, each under a label of the user's choice."""


class LatentSettings(Settings):
    """The noise that the generator starts from."""

    dim: int = Field(default=100, ge=1, le=65536, description="length Z of a latent vector")
    distribution: Literal["normal", "uniform"] = Field(
        default="normal", description="standard normal, or uniform in [-1, 1]"
    )


class OptimizerPair(Settings):
    """One optimizer for each player."""

    generator: OptimizerSettings = OptimizerSettings()
    discriminator: OptimizerSettings = OptimizerSettings()


PrecisionName = Literal["auto", "fp32", "tf32", "bf16"]
"""What a run may ask of precision; see `gancore.training.precision`."""


class TrainingSettings(Settings):
    """How a step is made."""

    discriminator_steps: int = Field(default=1, ge=1, le=100, description="updates of D for each update of G")
    fakes: Literal["shared", "fresh"] = Field(
        default="shared", description="whether G's step scores the fakes that D has just seen, or draws new ones"
    )
    conditional: bool = Field(default=False, description="give both networks the labels of the dataset")
    data: Literal["auto", "device", "stream"] = Field(
        default="auto", description="keep the whole dataset on the device, or stream it; auto: keep it if it fits"
    )
    workers: int = Field(default=0, ge=0, le=64, description="processes that load data while it is streamed")
    accumulate: int = Field(
        default=1, ge=1, le=65536, description="parts in which a batch goes through the networks, to take less memory"
    )
    precision: PrecisionName = Field(
        default="fp32",
        description="what networks multiply in; auto: bf16 for images where the device has it, else fp32",
    )
    channels_last: bool | None = Field(
        default=None,
        description="lay images out pixel by pixel, not channel by channel; absent: on CUDA under bf16 or tf32",
    )
    sync_batchnorm: bool = Field(
        default=False, description="of several processes: batch normalization over the whole batch, on CUDA"
    )
    cuda_graph: bool = Field(default=False, description="on CUDA, launch a step as one graph where that can be done")
    clip_norm: Schedulable | None = Field(
        default=None, gt=0, description="the largest norm of a player's gradient, all weights taken together"
    )
    on_nonfinite: Literal["stop", "skip", "rollback"] = Field(
        default="stop",
        description="at NaN or infinity: end the run, leave out the step, or go back to the newest checkpoint",
    )
    nonfinite_limit: int = Field(
        default=3, ge=0, description="how often a run may leave out a step, or go back, before it ends after all"
    )


class EMASettings(Settings):
    """An exponential moving average of the generator, from which samples are then drawn."""

    half_life_kimg: Schedulable = Field(
        default=10.0, gt=0, description="after how many thousand real images a weight's share has halved"
    )
    ramp_up: float | None = Field(
        default=None, gt=0, description="the half-life is at most this share of the images seen so far"
    )


class CheckpointSettings(Settings):
    """When to save; the first is saved at step 0 and the last at the end in any case."""

    every_steps: int = Field(default=1000, ge=1, description="steps between two checkpoints")
    keep: int = Field(default=2, ge=2, description="how many of the newest are kept")
    best: str | None = Field(
        default=None, description="a metric of the run, such as fd-digits, by which the best checkpoint is kept too"
    )


class LogSettings(Settings):
    """When to write a line of metrics."""

    every_steps: int = Field(default=100, ge=1, description="steps between two lines")


class SampleSettings(Settings):
    """When to draw samples, always from the same noise."""

    every_kimg: float = Field(default=100.0, gt=0, description="thousands of real images between two pictures")
    count: int = Field(default=64, ge=1, le=10000, description="images in a picture")


class EvaluateSettings(Settings):
    """When to look at the samples: at their diversity, and through the metrics of the run."""

    every_kimg: float = Field(default=100.0, gt=0, description="thousands of real images between two evaluations")
    samples: int | None = Field(
        default=None, ge=2, description="generated images that metrics see; absent: as many as the dataset says"
    )
    on_collapse: Literal["warn", "stop", "ignore"] = Field(
        default="warn", description="what to do when the samples have lost their diversity"
    )


class Options(Settings):
    """All of a run's config but its parts: what the loop needs to train any two modules on any dataset."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="the source of all randomness in the run")
    duration: str = Field(default="50 epochs", description="the total: a number of epochs, steps, kimg or minutes")
    batch_size: int = Field(default=64, ge=1, le=65536, description="real images in a step of D")
    latent: LatentSettings = LatentSettings()
    optimizer: OptimizerPair = OptimizerPair()
    training: TrainingSettings = TrainingSettings()
    ema: EMASettings | None = Field(default=None, description="absent: no average is kept")

    @field_validator("duration")
    @classmethod
    def _can_be_parsed(cls, text: str) -> str:
        Duration.parse(text)
        return text

    @property
    def total(self) -> Duration:
        """The duration, parsed."""
        return Duration.parse(self.duration)


class RunConfig(Options):
    """A whole run. Adding a kind of component to gancore takes one line here, beside its class and its hook."""

    # `schema` would hide a method of pydantic's, hence the alias.
    form: Literal[1] = Field(default=1, alias="schema", description="version of this form; a newer one is refused")
    generator: Generator
    discriminator: Discriminator
    loss: Loss
    dataset: Dataset
    regularizers: Labeled[Regularizer] = Field(
        default={}, description="penalties and constraints of the players; absent: none"
    )
    augmentations: Labeled[Augmentation] = Field(
        default={}, description="changes to what D sees, in the order of the labels; absent: none"
    )
    metrics: Annotated[Labeled[Metric], BeforeValidator(naming.read_labels)] = Field(
        default={}, description="what judges the samples; absent: nothing does"
    )
    observers: Labeled[Observer] = Field(
        default={}, description="who is told of the run, beside its log; absent: nobody"
    )
    checkpoint: CheckpointSettings = CheckpointSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    log: LogSettings = LogSettings()
    sample: SampleSettings = SampleSettings()

    def components(self) -> list[Component]:
        """Every component of the run, in the order of its keys, those inside of others included."""
        return list(components_in(self))

    def judges(self) -> dict[str, Metric]:
        """The metrics, each under the name that its results have: `fd-digits`."""
        return {naming.name_of(label, metric): metric for label, metric in self.metrics.items()}

    @model_validator(mode="after")
    def _judges_are_told_apart(self) -> Self:
        names = [naming.name_of(label, metric) for label, metric in self.metrics.items()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"two tables give {twice[0]!r}; put one under a label of another name"
            raise _misfit("metrics", message, ("metrics",), twice[0])
        best = self.checkpoint.best
        if best is not None and best not in names:
            raise _misfit("best", unknown_name("metric of the run", best, names), ("checkpoint", "best"), best)
        return self

    def to_data(self, catalog: Catalog) -> dict[str, Any]:  # Any: data of a file
        """The resolved config as plain data, from which `resolve` makes an equal run."""
        data: dict[str, Any] = plain(self, catalog.name_of)
        return {"schema": data.pop("schema")} | data

    def to_toml(self, catalog: Catalog) -> str:
        """The resolved config as the text of a file that replays this run."""
        return toml.dumps(self.to_data(catalog))


def _misfit(kind: str, message: str, loc: tuple[str, ...], received: object) -> ValidationError:
    """Keys that are right each by itself do not fit each other."""
    custom = PydanticCustomError(kind, message)
    return ValidationError.from_exception_data("Run", [InitErrorDetails(type=custom, loc=loc, input=received)])


def read_layers(source: str, catalog: Catalog) -> list[ConfigLayer]:
    """The layers of a recipe's name or of a TOML file, and of the recipe that the file builds on with `recipe`.

    Raises ConfigError when there is no such recipe or file, or the file is not TOML.
    """
    file = Path(source)
    if file.suffix != ".toml":
        if (file / "config.toml").is_file() and source not in {recipe.name for recipe, _ in catalog.recipes()}:
            raise ConfigError(f"{source} is a run directory, no recipe", f"gancore train {file / 'config.toml'}")
        return [ConfigLayer(f"recipe {source}", catalog.recipe(source).data)]
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {error.strerror}", "name a TOML file, or a recipe") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is not TOML: {error}", "mend the file") from error
    recipe = data.pop("recipe", None)
    if recipe is None:
        return [ConfigLayer(source, data)]
    if not isinstance(recipe, str):
        raise ConfigError(f"{source}: recipe must be the name of one; received {recipe!r}", "gancore recipes")
    return [ConfigLayer(f"recipe {recipe}", catalog.recipe(recipe).data), ConfigLayer(source, data)]


def resolve(layers: Iterable[ConfigLayer], catalog: Catalog, model: type[RunConfig] = RunConfig) -> RunConfig:
    """The run that all layers together describe, later ones over earlier ones.

    Raises ConfigError with every wrong key, type and range at once, each with its path and the layer that said it;
    PluginError for a component that fails while its fields are read, and as `Catalog.find` does.
    """
    defaults = {
        key: plain(field.default, catalog.name_of)
        for key, field in model.model_fields.items()
        if isinstance(field.default, Settings)
    }
    data, sources = merge([ConfigLayer("defaults", defaults), *layers])
    try:
        with _told_with_its_plugin(catalog):
            return model.model_validate(data, context=lookup(catalog))
    except ValidationError as error:
        problems = [sentence(line["loc"], line["msg"], line["input"], data, sources) for line in error.errors()]
    problems = list(dict.fromkeys(problems))
    if len(problems) > 1:
        problems = [f"({number}) {problem}" for number, problem in enumerate(problems, start=1)]
    raise ConfigError("wrong config: " + "; ".join(problems), "see the keys with: gancore show run")


@contextmanager
def _told_with_its_plugin(catalog: Catalog) -> Iterator[None]:
    """The failure of a third party's class in this block is told with the plugin that offers it."""
    try:
        yield
    except PluginError as error:
        for plugin in catalog.plugins:
            if plugin.package != BUILT_IN and error.part in {f"{kind} {name!r}" for kind, name in plugin.names}:
                error.message = f"{plugin.introduced}: {error.message}"
                break
        raise


def read_dataset(text: str, catalog: Catalog) -> Dataset:
    """A dataset by its name, or as an inline table of TOML: `{name = "mnist", split = "train"}`.

    Raises ConfigError with every wrong field at once.
    """
    table = inline_table("dataset", text)
    try:
        return Dataset.model_validate(table, context=lookup(catalog))
    except ValidationError as error:
        data = table if isinstance(table, Mapping) else {}
        problems = [sentence(line["loc"], line["msg"], line["input"], data, {}) for line in error.errors()]
    said = "; ".join(problem.removeprefix("run: ") for problem in problems)
    raise ConfigError(f"wrong dataset: {said}", "name one of: gancore list dataset; or a folder, or a .npy file")
