"""Why numbers of runs cannot be compared: other data, other versions, or metrics that were measured in other ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from gancore.config.layers import flattened
from gancore.evaluation.evaluator import MAX_REFERENCE_IMAGES
from gancore.report.scores import ScoreDetails
from gancore.report.summary import RunSummary

T = TypeVar("T")
_LISTED = 4
"""Number of runs that a sentence lists."""


def caveats(rows: Sequence[RunSummary], names: Sequence[str]) -> list[str]:
    """Return why numbers of runs cannot be compared, and what is missing or damaged; `names` are those of the runs."""
    found = [*_missing(rows, names), *_other_data(rows, names), *_other_software(rows, names)]
    metrics = dict.fromkeys(name for row in rows for name in row.scores)
    return [*found, *(note for metric in metrics for note in _other_protocol(metric, rows, names))]


def are_comparable(metric: str, rows: Sequence[RunSummary]) -> bool:
    """Return whether all runs measured a metric in the same way, as far as that is known."""
    return not any(_other_protocol(metric, rows, [""] * len(rows)))


def _missing(rows: Sequence[RunSummary], names: Sequence[str]) -> Iterator[str]:
    for row, name in zip(rows, names, strict=True):
        yield from row.notes
        yield from (f"{name}, step {event.step:,}: {event.text}" for event in row.events[-_LISTED:])
        if row.has_metrics and not row.scores:
            yield f"{name} has not been evaluated yet"
    without = [name for row, name in zip(rows, names, strict=True) if not row.has_metrics and row.config]
    if without and len(without) < len(rows):
        yield f"no metric was measured during training in {_listed(without)}"


def _other_data(rows: Sequence[RunSummary], names: Sequence[str]) -> Iterator[str]:
    def data_of(row: RunSummary) -> str | None:
        data = row.manifest.get("data")
        if not isinstance(data, Mapping) or not isinstance(data.get("items"), int):
            return None
        shape = data.get("shape")
        size = "x".join(map(str, shape)) if isinstance(shape, list) else "unknown size"
        return f"{data['items']:,} items of {size} from {data.get('dataset')}"

    yield from _different("other data", rows, names, data_of)


def _other_software(rows: Sequence[RunSummary], names: Sequence[str]) -> Iterator[str]:
    for key in ("gancore", "torch"):
        yield from _different(f"other versions of {key}", [row.manifest for row in rows], names, partial(_version, key))


def _version(key: str, manifest: Mapping[str, object]) -> str | None:
    version = manifest.get(key)
    return version if isinstance(version, str) else None


def _other_protocol(metric: str, rows: Sequence[RunSummary], names: Sequence[str]) -> Iterator[str]:
    measured = [
        (row.scores[metric].details, name) for row, name in zip(rows, names, strict=True) if metric in row.scores
    ]
    known = [(details, name) for details, name in measured if details is not None]
    if not known:
        return
    details, names = zip(*known, strict=True)
    yield from _different(f"{metric} was measured against other references", details, names, _reference)
    yield from _different(f"{metric} was measured with other numbers of images", details, names, _counts)
    yield from _different(f"{metric} was measured with other extractors", details, names, _extractor)
    yield from _different(f"{metric} was measured with other settings", details, names, _settings)


def _reference(details: ScoreDetails) -> str | None:
    """Return the reference of a metric, with its digest if all of it was used; None if the metric uses none."""
    reference, used = details.reference, details.counts.get("reference")
    if reference is None or used is None:
        return None
    name = " ".join(str(reference[key]) for key in ("name", "split") if reference.get(key))
    # The seed of the run chooses among more images.
    return name if used >= MAX_REFERENCE_IMAGES else f"{name} {str(reference.get('sha256'))[:12]}"


def _counts(details: ScoreDetails) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in details.counts.items())


def _extractor(details: ScoreDetails) -> str | None:
    extractor = details.extractor
    return None if extractor is None else f"{extractor.get('name')} {str(extractor.get('sha256'))[:12]}"


def _settings(details: ScoreDetails) -> str:
    return ", ".join(f"{key} {value}" for key, value in flattened(details.settings).items())


def _different(
    what: str, things: Sequence[T], names: Sequence[str], value_of: Callable[[T], str | None]
) -> Iterator[str]:
    """Yield a sentence if not all of the values that are known are the same."""
    found: dict[str, list[str]] = {}
    for thing, name in zip(things, names, strict=True):
        value = value_of(thing)
        if value is not None:
            found.setdefault(str(value), []).append(name)
    if len(found) > 1:
        parts = [f"{value} in {_listed(of)}" for value, of in found.items()]
        yield f"{what}: {'; '.join(parts)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
