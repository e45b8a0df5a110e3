"""Names of metrics: `fd-digits` is the metric `fd` that looks through the extractor `digits`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, ValidationInfo

from gancore.component import Finder, finder_of, lookup
from gancore.config.layers import inline_table
from gancore.errors import ConfigError
from gancore.metrics import Extractor, Metric

_TAKEN = {"step", "epoch", "kimg", "seconds", "diversity"}
"""Keys of a line of the log that tell when it was written, and the guard's."""


def name_of(label: str, metric: Metric) -> str:
    """The name under which results are given: the label, followed by the extractor's name unless it says so itself."""
    if metric.extractor is None or label.endswith(f"-{metric.extractor.name}"):
        return label
    return f"{label}-{metric.extractor.name}"


def find_metric(text: str, finder: Finder) -> Metric:
    """The metric of that name with its extractor, other fields at their defaults; or one as an inline table of TOML.

    Raises ConfigError when no such metric or extractor is known, or the metric needs an extractor and none is named.
    """
    table = inline_table("metric", text) if text.startswith("{") else _table(text, finder)
    try:
        return Metric.model_validate(table, context=lookup(finder))
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{text}: {problem}", "gancore list metric") from None


def read_labels(tables: object, info: ValidationInfo) -> object:
    """Tables under labels, each label perhaps naming metric and extractor at once, as tables that name both."""
    finder = finder_of(info)
    if not isinstance(tables, Mapping) or finder is None:
        return tables
    return {label: _named(label, table, finder) for label, table in tables.items()}


def _named(label: str, table: object, finder: Finder) -> object:
    if label in _TAKEN:
        raise ValueError(f"the label {label!r} is a key of the log; choose another")
    named = _table(label, finder)
    # fd = "digits" names the extractor, which is a table once fields of it were laid over that.
    given = table.get("name") if isinstance(table, Mapping) else table
    if isinstance(given, str) and _knows(finder, Extractor, given) and not _knows(finder, Metric, given):
        named = {**named, "extractor": given}
        table = {key: value for key, value in table.items() if key != "name"} if isinstance(table, Mapping) else {}
    if not isinstance(table, Mapping):
        return table
    if "name" in table:
        if _knows(finder, Metric, named["name"]) and table["name"] != named["name"]:
            raise ValueError(f"the label {label!r} names another metric than {table['name']!r}; choose another")
        return table
    extractor = table.get("extractor")
    if isinstance(extractor, Mapping) and "extractor" in named:
        table = {**table, "extractor": {"name": named["extractor"], **extractor}}
    return {**named, **table}


def _table(name: str, finder: Finder) -> dict[str, Any]:  # Any: data of a file
    """The name taken apart where both halves are known; else where the first is; else what may have been meant."""
    if _knows(finder, Metric, name):
        return {"name": name}
    halves = [(name[:place], name[place + 1 :]) for place, letter in enumerate(name) if letter == "-"]
    known = [pair for pair in reversed(halves) if _knows(finder, Metric, pair[0])]
    both = [pair for pair in known if _knows(finder, Extractor, pair[1])]
    if known:
        metric, extractor = (both or known)[0]
        return {"name": metric, "extractor": extractor}
    return {"name": halves[-1][0] if halves else name}


def _knows(finder: Finder, kind: type[Metric] | type[Extractor], name: str) -> bool:
    try:
        finder.find(kind, name)
    except ConfigError:
        return False
    return True
