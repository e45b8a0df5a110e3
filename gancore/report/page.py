"""The page of one or several runs: a single HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from gancore.catalog.catalog import Catalog
from gancore.errors import ConfigError
from gancore.report.caveats import caveats
from gancore.report.collect import collect
from gancore.report.compare import OverSeeds, Spread, config_differences, over_seeds, repeated_seeds
from gancore.report.curves import best_point, legend, metric_curves, metrics_of, swatches_of, training_curves
from gancore.report.pictures import Embedded, share_of
from gancore.report.summary import RunSummary
from gancore.report.view import RunView, Sources, duration_text, value_text, view_of
from gancore.utils.atomic import atomic_write
from gancore.utils.files import without_warnings
from gancore.utils.paths import data_root, shell_quote
from gancore.utils.text import short_number

REPORT = "report.html"
"""File name of the page in the folder of a run."""
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")
"""Characters that HTML must not have."""


@dataclass(frozen=True)
class Page:
    """A page, and notes on what is missing or damaged in the runs that it is of."""

    html: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MetricRow:
    """The values of a metric in a table: for each run the newest and the best one."""

    name: str
    better: str
    real_data: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SeedsRow:
    """Runs that differ only in their seed: their names, and by name the median of each number with its range."""

    names: tuple[str, ...]
    numbers: Mapping[str, str]


def write_report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    catalog: Catalog | None = None,
) -> Path:
    """Write a page about one run, or about several side by side, and return its path.

    `runs` are their folders; a run may be in training. The page is one HTML file without anything outside it: pictures
    through training, curves, metrics, events, the training images nearest to samples, a map of latents to explore,
    config, machine and commands. What is missing or damaged is said on the page. `out` is by default `report.html` in
    the folder of the run, and in the working directory for several runs. `data_dir` has the files of datasets.
    `device`, one of auto, cpu, cuda and mps, draws the samples. `catalog` has the plugins, by default all that are
    installed.
    Raises CheckpointError when there is no run in a folder, StorageError when the page cannot be written.
    """
    paths = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    target = target_of(paths, out)
    page = page_of(paths, Sources(catalog or Catalog.installed(), device, data_root(data_dir)))
    write_page(page, target)
    return target


def target_of(runs: Sequence[Path], out: str | Path | None = None) -> Path:
    """Return where a page goes. Raises ConfigError without a run, and for a name that does not end in `.html`."""
    if not runs:
        raise ConfigError("a report needs at least one run", "name the folder of a run, like runs/0001")
    if out is not None and not Path(out).name:
        raise ConfigError("a report needs the name of a file that ends in .html", "--out report.html")
    target = Path(out) if out is not None else runs[0] / REPORT if len(runs) == 1 else Path(REPORT)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"a report must end in .html; received {target}", f"--out {shell_quote(target.with_suffix('.html').name)}"
        )
    return target


def write_page(page: Page, target: Path) -> None:
    """Write a page; the file is complete, or what was there before. Raises StorageError when it cannot be written."""
    with atomic_write(target) as temporary:
        temporary.write_text(page.html, encoding="utf-8")


def page_of(paths: Sequence[Path], sources: Sources) -> Page:
    """Return the page of runs. Raises CheckpointError when there is no run in one of the folders."""
    runs = _with_different_names([collect(path) for path in paths])
    with without_warnings():  # of fonts without a letter that a label has: the browser has its own fonts
        training, metrics = training_curves(runs), metric_curves(runs)
    sources = replace(sources, share=share_of(len(runs)))
    views = [view_of(run, number, sources) for number, run in enumerate(runs)]
    environment = environment_of("gancore.report")
    environment.filters["value"] = value_text
    environment.filters["short"] = short_number
    folder = files("gancore.report") / "templates"
    html = environment.get_template("report.html.jinja").render(
        title=views[0].name if len(views) == 1 else f"{len(views)} runs",
        runs=views,
        swatches=swatches_of(runs),
        shared=_shared(views),
        legend=legend(runs),
        training=training,
        metrics=metrics,
        table=_table(runs),
        seeds=_over_seeds(runs),
        events=[(run.name, event) for run in runs for event in run.events],
        caveats=_caveats(runs),
        differences=config_differences([run.config for run in runs]) if len(runs) > 1 else [],
        style=(folder / "report.css").read_text(encoding="utf-8"),
        script=(folder / "report.js").read_text(encoding="utf-8"),
    )
    notes = tuple(dict.fromkeys(note for view in views for note in view.notes))
    return Page(without_control_characters(html), notes)


def environment_of(package: str) -> Environment:
    """Return the environment for the templates of pages in a package."""
    return Environment(
        loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def without_control_characters(html: str) -> str:
    """Return the page with a replacement character for each one that HTML must not have."""
    return _NO_TEXT.sub("\ufffd", html)


def _with_different_names(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Return the runs, those of equal names with their whole paths as names."""
    names = [run.name for run in runs]
    return [replace(run, name=str(run.path)) if names.count(run.name) > 1 else run for run in runs]


def _caveats(runs: Sequence[RunSummary]) -> list[str]:
    """Return why numbers of the runs cannot be compared, without the notes, which the page has anyway."""
    if len(runs) == 1:
        return []
    noted, names = {note for run in runs for note in run.notes}, [run.name for run in runs]
    return [caveat for caveat in caveats(runs, names) if caveat not in noted] + [*repeated_seeds(runs, names)]


def _shared(views: Sequence[RunView]) -> Embedded | None:
    """Return the picture of real data if all of several runs have the same one."""
    first = views[0].real
    return first if len(views) > 1 and all(view.real == first for view in views) else None


def _table(runs: Sequence[RunSummary]) -> list[MetricRow]:
    """Return the metrics of all runs, a row each."""
    rows = []
    for name, metric in metrics_of(runs, with_further=True).items():
        values = []
        for run in runs:
            score, best = (run.scores | run.further_scores).get(name), best_point(run, name)
            text = f"{short_number(best[1])} at {best[0]:,.1f} kimg" if best else ""
            values.append((short_number(score.value) if score else "", text))
        real = "" if metric.real_data is None else short_number(metric.real_data)
        rows.append(MetricRow(name, metric.better or "", real, tuple(values)))
    return rows


def _over_seeds(runs: Sequence[RunSummary]) -> list[SeedsRow]:
    """Return a row for each group of runs that differ only in their seed."""

    def text(spread: Spread | None, count: int, show: Callable[[float], str] = short_number) -> str:
        if spread is None:
            return ""
        middle, low, high = show(spread.median), show(spread.low), show(spread.high)
        of = f", {spread.count} of {count}" if spread.count < count else ""
        return (middle if low == high else f"{middle} ({low} to {high})") + of

    def row(group: OverSeeds) -> SeedsRow:
        count = len(group.members)
        numbers = {"kimg": text(group.kimg, count), "training": text(group.seconds, count, duration_text)}
        numbers |= {name: text(spread, count) for name, spread in group.metrics.items()}
        return SeedsRow(tuple(runs[place].name for place in group.members), numbers)

    return [row(group) for group in over_seeds(runs)]
