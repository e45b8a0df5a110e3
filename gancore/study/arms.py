"""The runs of a study: what all of them share, what an arm changes, and checks of both before the first run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gancore.catalog.catalog import Catalog
from gancore.config.layers import flattened, nested
from gancore.config.run import RunConfig
from gancore.errors import ConfigError, GancoreError
from gancore.run.run import Run
from gancore.settings import REMOVE
from gancore.study.definition import BASE, StudyConfig, Table

SHARED = ("checkpoint.best", "duration", "evaluate", "metrics", "report", "sample", "seed")
"""Keys that are equal in all runs of a study, so no arm may set them."""
OFF: Mapping[str, object] = {
    "report": REMOVE,
    "evaluate.every_kimg": 1e9,
    "evaluate.on_collapse": "ignore",
    "sample.every_kimg": 1e9,
    "checkpoint.best": REMOVE,
}
"""Work on the way that a study leaves out, since it would count as time of training; it measures after training."""


@dataclass(frozen=True)
class Sources:
    """Where the runs of a study get plugins, data and a device from."""

    catalog: Catalog
    device: str = "auto"
    data_dir: Path | None = None


def make_run(
    study: StudyConfig,
    keys: Table,
    seed: int,
    sources: Sources,
    out: Path | None = None,
    *,
    budget: str | None = None,
    metrics: Table | None = None,
) -> Run:
    """Return the run of an arm with these config keys: over the base, or over a recipe that `recipe` names.

    It has the `budget`, by default that of the study, and the `metrics`, by default none. Raises as `Run` does.
    """
    keys = dict(keys)
    recipe = keys.pop("recipe", None)
    budget = budget or study.budget
    total = {} if budget is None else {"duration": budget}

    def made(**threads: int) -> Run:
        more = {f"training.{key}": value for key, value in threads.items()}
        return Run(
            study.base if recipe is None else {"recipe": recipe},
            set={**more, **keys, **OFF, "metrics": metrics or REMOVE, **total},
            seed=seed,
            out=out,
            device=sources.device,
            data_dir=sources.data_dir,
            catalog=sources.catalog,
        )

    run = made()
    own = run.config.training.threads
    if study.threads is None or (own != "auto" and own <= study.threads):  # such as 1 in recipes of small networks
        return run
    return made(threads=study.threads)


def measured_config(study: StudyConfig, sources: Sources) -> RunConfig:
    """Return the config of the baseline with the metrics of the study that have settings.

    Raises ConfigError for wrong settings, and for a name that results would not have.
    """
    given = study.metrics if isinstance(study.metrics, Mapping) else {}
    config = make_run(study, study.arms[study.baseline], 0, sources, metrics=given).config
    for label, name in zip(config.metrics, config.named_metrics(), strict=True):
        if label in given and label != name:
            raise ConfigError(f"wrong study: metrics.{label} must end with its extractor", f"name it {name}")
    return config


def problems_of_arms(study: StudyConfig, sources: Sources, *, is_conditional: bool) -> Iterator[str]:
    """Yield everything that is wrong with any arm; `is_conditional` says that a metric needs conditional samples."""
    configs, seen, wrong = dict[str, RunConfig](), dict[str, object](), set[str]()
    for name, keys in _checked(study):
        given = [f"{key}." for key in flattened(keys)]
        shared = [key for key in SHARED if any(each.startswith(f"{key}.") for each in given)]
        yield from (f"{name} sets {key}, which is equal in all runs" for key in shared)
        try:
            config = configs[name] = make_run(study, keys, 0, sources).config
        except GancoreError as error:
            if name in study.arms or str(error).partition("[")[0] not in wrong:  # such as a key of the space
                yield f"{name}: {error}"
            wrong.add(str(error).partition("[")[0])
            continue
        if is_conditional and not config.training.conditional:
            yield f"{name} is not conditional, as a metric of the study needs it"
        baseline = configs.get(study.baseline)  # which comes first
        if baseline is not None and config.duration != baseline.duration:
            yield f"{name} runs for {config.duration}, {study.baseline} for {baseline.duration}: set budget"
        if baseline is not None and config.dataset != baseline.dataset:
            yield f"{name} has other data than {study.baseline}, so results would not be comparable"
        if name in study.arms:
            data = config.to_data(sources.catalog)
            yield from (_repeated(study, name, other) for other, known in seen.items() if known == data)
            seen[name] = data


def _repeated(study: StudyConfig, name: str, other: str) -> str:
    """Return that an arm is the same as another, and how to keep only one of them."""
    renamed = f', or name the base: baseline = "{name}"' if other == BASE and len(study.variants) > 1 else ""
    return f"{name} is the same as {other}: leave out [variants.{name}]{renamed}"


def _checked(study: StudyConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a name and the keys of each arm, and of both ends of the space."""
    for name, keys in study.arms.items():
        yield name, dict(keys)
    space = list(study.distributions())
    for place in range(max((len(distribution.ends) for _, distribution in space), default=0)):
        keys = nested({key: each.ends[min(place, len(each.ends) - 1)] for key, each in space})
        yield f"a setting of the space, {in_words(flattened(keys))}", keys


def in_words(keys: Mapping[str, object]) -> str:
    """Return dotted keys with their values as text, numbers with four digits."""
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in keys.items()
    )
