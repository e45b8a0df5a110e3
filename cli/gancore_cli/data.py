"""The command `data`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Terminal, data_dir, echo, output_options, settings_of

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.config.layers import ConfigLayer
    from gancore.config.suggest import Suggestion
    from gancore.contracts import Dataset
    from gancore.data.feed import Feed
    from gancore.data.summary import Contents, DataSummary
    from gancore.evaluation.train_extractor import Preparation


@click.command("data")
@click.argument("source", metavar="PATH|DATASET", shell_complete=completers.datasets_and_paths)
@settings_of("the dataset")
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw samples of each class, as networks see them.",
)
@data_dir
@output_options
def data(
    terminal: Terminal, source: str, assignments: tuple[str, ...], sheet: Path | None, data_dir: Path | None
) -> None:
    """Show what is understood of a dataset, without training.

    Reads every item once. PATH is a file or folder of yours, DATASET a name of `gancore list dataset`; write ./NAME for
    a folder with the name of a dataset. --json lists the names of all files.

    \b
    Examples:
      gancore data PICTURES --sheet sheet.png
      gancore data PICTURES --set size=32 --set classes=true
      gancore data mnist --json
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    import torch

    from gancore.config.from_path import findings_of
    from gancore.data.feed import Feed
    from gancore.data.items import build_dataset
    from gancore.data.summary import summarize
    from gancore.run.run import prepare
    from gancore.sampling.sheet import save_sheet
    from gancore.sampling.sheet import sheet as draw_sheet
    from gancore.settings import plain
    from gancore.utils.json import json_safe
    from gancore.utils.paths import data_root

    if sheet and sheet.suffix.lower() != ".png":
        raise click.UsageError(f"--sheet must end in .png; received {sheet}")
    root, catalog = data_root(data_dir), open_catalog(terminal)
    dataset, suggestion = _dataset(terminal, source, assignments, catalog)
    chosen = suggestion.choice if suggestion else None
    warn(terminal, catalog)
    display = terminal.display()
    read = _lenient(dataset)
    display.prepare(prepare(read, root))
    built = build_dataset(read, root)
    feed = Feed(built, batch_size=1, seed=0, device=torch.device("cpu"), data="stream")
    reading = _Reading(feed)
    display.prepare(reading.progress())
    summary = summarize(feed, dataset, findings_of(read, root), reading.contents)
    if sheet:
        save_sheet(draw_sheet(feed), sheet)
    document = {
        **summary.to_data(),
        "settings": plain(dataset, catalog.name_of),
        "chosen": chosen,
        "columns": list(feed.columns),
        "mirrors": bool(getattr(built, "mirrors", False)),
        "measured_range": [reading.contents.lowest, reading.contents.highest],
        "copies": _named(reading.contents.copies, built),
        "imbalance": summary.imbalance,
        "used": {kind: list(names) for kind, names in summary.findings.used.items()},
        "skipped": {reason: list(names) for reason, names in summary.findings.skipped.items()},
        "facts": dict(summary.findings.facts),
        "notes": list(summary.findings.notes),
        "warnings": [*_stopping(dataset, summary), *summary.warnings(augmented=_is_augmented(suggestion))],
        "sheet": str(sheet) if sheet else None,
    }
    terminal.result(json_safe(document), lambda: _print(summary, document))


class _Reading:
    """Reads all items, with its progress."""

    contents: Contents

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def progress(self) -> Iterator[Preparation]:
        from gancore.data.summary import read_contents
        from gancore.evaluation.train_extractor import Preparation

        def shares() -> Iterator[float]:
            self.contents = yield from read_contents(self._feed)

        for done in shares():
            yield Preparation("reading all items", done)


def _dataset(
    terminal: Terminal, source: str, assignments: tuple[str, ...], catalog: Catalog
) -> tuple[Dataset, Suggestion | None]:
    """Return the dataset of a name or path, with the keys that were set, and what `train` would choose for a path.

    Raises ConfigError for a wrong key.
    """
    from gancore.config.find import read_component
    from gancore.config.from_path import dataset_at
    from gancore.config.layers import merge
    from gancore.config.suggest import suggest
    from gancore.contracts import Dataset
    from gancore.distributed.ranks import SINGLE_RANK
    from gancore.errors import ConfigError, DataError, did_you_mean, unknown_name

    known = [dataset.name for dataset, _ in catalog.offers(Dataset)]  # type: ignore[type-abstract]  # offers are concrete
    if source in known or source.rpartition(":")[2] in known:
        if Path(source).exists():
            path = quote(f"./{source}")
            terminal.note(f"note: {source} is the dataset; for the data of the same name: gancore data {path}")
        dataset: Dataset = read_component(Dataset, {"name": source}, catalog)  # type: ignore[type-abstract]  # as above
    elif not Path(source).expanduser().exists():
        raise DataError(
            f"there is no file or folder {source}, and {unknown_name('dataset', source, known)}",
            f"{did_you_mean(Path(source).expanduser()).removesuffix('?')}, or see: gancore list dataset",
        )
    else:
        try:
            chosen = suggest(
                source, catalog, _layers(assignments), accelerated=SINGLE_RANK.device("auto").type != "cpu"
            )
        except ConfigError:  # no recipe can be chosen, or a key is wrong, which is reported below
            return with_settings(dataset_at(source, catalog), assignments, catalog), None
        dataset = read_component(Dataset, merge(chosen.layers)[0]["dataset"], catalog)
        return with_settings(dataset, assignments, catalog), chosen
    return with_settings(dataset, assignments, catalog), None


def _is_augmented(chosen: Suggestion | None) -> bool:
    """Return whether the config that `train` would choose augments the images already."""
    from gancore.config.layers import merge

    return chosen is not None and bool(merge(chosen.layers)[0].get("augmentations"))


def with_settings(dataset: Dataset, assignments: tuple[str, ...], catalog: Catalog) -> Dataset:
    """Return a dataset with keys set, as `--set` names them. Raise ConfigError for a wrong one."""
    from gancore.config.find import read_component
    from gancore.config.layers import ConfigLayer, merge
    from gancore.contracts import Dataset
    from gancore.settings import plain

    if not assignments:
        return dataset
    layers = [ConfigLayer(dataset.name, {"dataset": plain(dataset, catalog.name_of)}), *_layers(assignments)]
    changed: Dataset = read_component(Dataset, merge(layers)[0]["dataset"], catalog)
    return changed


def _layers(assignments: tuple[str, ...]) -> list[ConfigLayer]:
    from gancore.config.layers import assignment

    return [assignment(text if text.startswith("dataset.") else f"dataset.{text}") for text in assignments]


_STOPS = {"on_error": "unreadable", "missing": "missing"}
"""Settings that can stop at some items, and how `findings` begins the reason to skip these."""


def _lenient(dataset: Dataset) -> Dataset:
    """Return the dataset that skips and counts what training would stop at."""
    return dataset.model_copy(update={key: "skip" for key in _STOPS if getattr(dataset, key, "") == "stop"})


def _stopping(dataset: Dataset, summary: DataSummary) -> Iterator[str]:
    """Yield a warning of what training would stop at, which is left out here."""
    for key, begin in _STOPS.items():
        count = sum(len(names) for why, names in summary.findings.skipped.items() if why.startswith(begin))
        if count and getattr(dataset, key, "") == "stop":
            them = "it" if count == 1 else "them"
            yield f"{count:,} {begin}, and training would stop: --set dataset.{key}=skip leaves {them} out"


def _print(summary: DataSummary, document: dict[str, Any]) -> None:  # Any: JSON
    """Print one line for each subject that there is something to say about."""
    from gancore.data.summary import class_line

    findings, contents = summary.findings, summary.contents
    path = document["settings"].get("path")
    lines = {
        "data": f"{path} (dataset {summary.name})" if path else summary.name,
        "files": findings.in_words(),
        **findings.facts,
        "samples": summary.samples_line(),
        "columns": ", ".join(document["columns"]),
        "condition": _condition(summary),
        "copies": _copies(contents.extra if contents else 0),
        "classes": class_line(summary.classes, summary.class_counts) if summary.classes else "",
        "held out": summary.held_out or "",
        "mirrored": "augmentations may mirror the images" if document["mirrors"] else "",
        "train": f"gancore train would choose: {document['chosen']}" if document["chosen"] else "",
        "sheet": document["sheet"] or "",
    }
    width = max(len(key) for key, text in lines.items() if text) + 2
    for key, text in lines.items():
        if text:
            echo(f"{key + ':':<{width}}{text}")
    for note in findings.notes:
        echo(f"note: {note}")
    for warning in document["warnings"]:
        echo(f"warning: {warning}")


def _named(groups: Sequence[Sequence[int]], built: object) -> list[list[int | str]]:
    """Return groups of items, as their names if the dataset knows them, else their numbers."""
    from gancore.errors import blame

    name_of = getattr(built, "name_of", None)
    if name_of is None:
        return [list(group) for group in groups]
    with blame("dataset", "in name_of()"):
        return [[str(name_of(index)) for index in group] for group in groups]


def _copies(extra: int) -> str:
    return f"{extra:,} exact copies of other samples" if extra != 1 else "1 exact copy of another sample"


def _condition(summary: DataSummary) -> str:
    from gancore.data.summary import describe_shape

    return f"a tensor of {describe_shape(summary.condition)}" if isinstance(summary.condition, tuple) else ""
