"""Names of metrics: `fd-classifier` is the metric `fd` with the extractor `classifier`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError, ValidationInfo

from gancore.component import Finder
from gancore.config.layers import parse_value
from gancore.errors import ConfigError, PluginError
from gancore.metrics import Extractor, Metric

LOG_KEYS = {"step", "epoch", "kimg", "seconds", "diversity"}
"""Keys of a line of the log, which cannot be the label of a metric."""


def name_of(label: str, metric: Metric) -> str:
    """Return the name of a metric in results: its label, and the extractor's name unless the label ends with it."""
    if metric.extractor is None or label.endswith(f"-{metric.extractor.name}"):
        return label
    return f"{label}-{metric.extractor.name}"


def find_metric(text: str, finder: Finder) -> Metric:
    """Return the metric `fd-classifier`, with defaults for its fields, or the metric of an inline TOML table.

    Raises ConfigError if the metric or extractor is unknown, or the metric needs an extractor and the name has none.
    """
    table = parse_value(text) if text.startswith("{") else split_name(text, finder)
    try:
        return Metric.model_validate(table, context=finder)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{text}: {problem}", "gancore list metric") from None


def read_labels(tables: object, info: ValidationInfo) -> object:
    """Add to each table the metric and the extractor that its label names."""
    if not isinstance(tables, Mapping) or not isinstance(info.context, Finder):
        return tables
    return {label: _expand(label, table, info.context) for label, table in tables.items()}


def _expand(label: str, table: object, finder: Finder) -> object:
    if label in LOG_KEYS:
        raise ValueError(f"the label {label!r} is a key of the log; choose another")
    named = split_name(label, finder)
    # fd = "classifier" names the extractor. It is a table once a layer above has set fields of the extractor.
    given = table.get("name") if isinstance(table, Mapping) else table
    if isinstance(given, str) and _knows(finder, Extractor, given) and not _knows(finder, Metric, given):
        named = {**named, "extractor": given}
        table = {key: value for key, value in table.items() if key != "name"} if isinstance(table, Mapping) else {}
    if not isinstance(table, Mapping):
        return table
    if "name" in table:
        if _knows(finder, Metric, named["name"]) and table["name"] != named["name"]:
            raise ValueError(f"the label {label!r} names another metric than {table['name']!r}; choose another label")
        return table
    extractor = table.get("extractor")
    if isinstance(extractor, Mapping) and "extractor" in named:
        table = {**table, "extractor": {"name": named["extractor"], **extractor}}
    return {**named, **table}


def split_name(name: str, finder: Finder) -> dict[str, str]:
    """Split a name into metric and extractor: both known, or else the metric known, or else at the last hyphen."""
    if _knows(finder, Metric, name):
        return {"name": name}
    pairs = [(name[:place], name[place + 1 :]) for place, letter in enumerate(name) if letter == "-"]
    known = [pair for pair in reversed(pairs) if _knows(finder, Metric, pair[0])]
    both = [pair for pair in known if _knows(finder, Extractor, pair[1])]
    if not known:
        return {"name": pairs[-1][0] if pairs else name}
    return dict(zip(("name", "extractor"), (both or known)[0], strict=True))


def _knows(finder: Finder, kind: type[Metric] | type[Extractor], name: str) -> bool:
    try:
        finder.find(kind, name)
    except (ConfigError, PluginError):  # PluginError: a plugin that is not loaded might offer it, or several do
        return False
    return True
