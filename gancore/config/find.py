"""Components by kind and name, with values for their fields: from Python code that has no config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar, overload

from pydantic import ValidationError

from gancore.catalog.catalog import Catalog
from gancore.component import Component
from gancore.config.messages import problem_messages
from gancore.config.metric_names import split_name
from gancore.config.run import named_by_label
from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Regularizer
from gancore.errors import ConfigError, unknown_name
from gancore.exporters import Exporter
from gancore.metrics import Extractor, Metric
from gancore.observers import Observer

C = TypeVar("C", bound=Component)


@overload
def find(kind: Literal["generator"], name: str, /, **fields: object) -> Generator: ...
@overload
def find(kind: Literal["discriminator"], name: str, /, **fields: object) -> Discriminator: ...
@overload
def find(kind: Literal["loss"], name: str, /, **fields: object) -> Loss: ...
@overload
def find(kind: Literal["dataset"], name: str, /, **fields: object) -> Dataset: ...
@overload
def find(kind: Literal["regularizer"], name: str, /, **fields: object) -> Regularizer: ...
@overload
def find(kind: Literal["augmentation"], name: str, /, **fields: object) -> Augmentation: ...
@overload
def find(kind: Literal["extractor"], name: str, /, **fields: object) -> Extractor: ...
@overload
def find(kind: Literal["metric"], name: str, /, **fields: object) -> Metric: ...
@overload
def find(kind: Literal["observer"], name: str, /, **fields: object) -> Observer: ...
@overload
def find(kind: Literal["exporter"], name: str, /, **fields: object) -> Exporter: ...


def find(kind: str, name: str, /, **fields: object) -> Component:
    """Return an installed component by its name, with these values for its fields, and defaults for the others.

    For example `find("loss", "relativistic")`, `find("regularizer", "r1", gamma=1.0)`, `find("metric", "fd-random")`.
    `gancore list` shows the names, `gancore show KIND NAME` the fields. Raises ConfigError for an unknown kind, name or
    field, PluginError if the name may belong to a plugin that is not loaded.
    """
    catalog = Catalog.installed()
    if kind not in catalog.kinds:
        raise ConfigError(unknown_name("kind", str(kind), catalog.kinds))
    named = split_name(name, catalog) if kind == Metric.kind else {"name": name}
    return read_component(catalog.kinds[kind], {**named, **fields}, catalog)


def read_component(kind: type[C], value: C | str | Mapping[str, object], catalog: Catalog | None = None) -> C:
    """Return a component of this kind: itself, or by its name or its table, as a config would name it.

    `catalog` is by default that of the installed plugins. Raises ConfigError for an unknown name or a wrong field.
    """
    if isinstance(value, kind):
        return value
    table: object = {"name": value} if isinstance(value, str) else value
    try:
        return kind.model_validate(table, context=catalog or Catalog.installed())
    except ValidationError as error:
        problems = problem_messages(error, table if isinstance(table, Mapping) else {}, {})
    message = "; ".join(problem.removeprefix("run: ").removeprefix("name: ") for problem in problems)
    hint = (
        f"gancore show {kind.kind} NAME"
        if isinstance(table, Mapping) and len(table) > 1
        else f"gancore list {kind.kind}"
    )
    raise ConfigError(f"wrong {kind.kind}: {message}", hint)


def read_labeled(kind: type[C], values: Mapping[str, C | str | Mapping[str, object]]) -> dict[str, C]:
    """Return components by label, from components, names, or tables in which the label is the default name.

    Raises ConfigError as `read_component` does.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"the {kind.kind}s must be a mapping from labels; received {type(values).__name__}",
            f'for example {kind.kind}s={{"label": {kind.kind}}}',
        )
    tables: Mapping[str, C | str | Mapping[str, object]] = named_by_label(values)
    return {label: read_component(kind, table) for label, table in tables.items()}
