"""The page of a study: one HTML file with conclusions, plots of every run, and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from gancore.report.page import REPORT, Page, environment_of, without_control_characters, write_page
from gancore.study.arms import in_words
from gancore.study.definition import FILE
from gancore.study.plots import values_of_arms, values_over_key
from gancore.study.results import SEARCH, StudyReport
from gancore.utils.files import without_warnings
from gancore.utils.paths import shell_quote
from gancore.utils.text import duration, short_number


def write_study_page(report: StudyReport, folder: Path, out: Path | None = None) -> Path:
    """Write the page of the study in a folder, by default into it, and return its path.

    Raises StorageError when it cannot be written.
    """
    target = out or folder / REPORT
    write_page(Page(without_control_characters(page_of_study(report, folder)), ()), target)
    return target


def page_of_study(report: StudyReport, folder: Path) -> str:
    """Return the page of a study as HTML."""
    config = report.config
    done = sum(each.is_over for each in report.outcomes)
    reported = f"Compared with {report.reported_by}."
    chosen = f"Settings are chosen by {report.chosen_by}. {reported}" if report.chosen_by else ""
    with without_warnings():  # of fonts without a letter that a label has: the browser has its own fonts
        plots, scatters = list(_plots(report)), list(_scatters(report))
    return (
        environment_of("gancore.study")
        .get_template("study.html.jinja")
        .render(
            name=folder.resolve().name,
            folder=str(folder),
            state=f"{done} of {len(report.outcomes)} runs ended",
            facts=[
                (f"{len(report.arms)}", "arms"),
                (f"{len(config.seed_list)}", "seeds"),
                (config.budget or "as in the base", "budget of a run"),
                (config.metric, "metric"),
            ],
            scope=report.scope(),
            conclusions=report.conclusions(),
            warnings=report.warnings(),
            plots=plots,
            scatters=scatters,
            reported=reported,
            chosen=chosen,
            rule=report.rule(),
            table=report.table(),
            runs=[["run", "state", *config.numbers, "kimg", "time", "note"], *_runs(report)],
            toml=config.to_toml(),
            machine=report.machine,
            commands=[
                ("continue", f"gancore study run {shell_quote(folder / FILE)} --out {shell_quote(folder)}"),
                ("one more worker", f"gancore study work {shell_quote(folder)}"),
                ("all numbers", f"gancore report {shell_quote(folder)} --json"),
            ],
            style=(files("gancore.report") / "templates" / "report.css").read_text(encoding="utf-8"),
        )
    )


def _plots(report: StudyReport) -> Iterator[tuple[str, str]]:
    for number, metric in enumerate(report.config.numbers):
        arms = [(arm, [each.value(metric) for each in runs]) for arm, runs in report.arms.items()]
        if any(math.isfinite(value) for _, values in arms for value in values):
            better = f", {report.better[metric]} is better" if metric in report.better else ""
            yield f"{metric}{better}", values_of_arms(arms, metric, report.real_data.get(metric), f"v{number}")


def _scatters(report: StudyReport) -> Iterator[tuple[str, str]]:
    metric = report.config.metric
    done = [each for each in report.searched if math.isfinite(each.value(metric))]
    for number, (key, distribution) in enumerate(report.config.distributions() if done else ()):
        choices, is_logarithmic = distribution.choice or (), distribution.log is not None
        values = [choices.index(each.keys[key]) if choices else each.keys[key] for each in done]
        points = [(float(value), each.value(metric)) for value, each in zip(values, done, strict=True)]
        shown = list(map(str, choices))
        yield key, values_over_key(points, key, metric, f"s{number}", choices=shown, is_logarithmic=is_logarithmic)


def _runs(report: StudyReport) -> Iterator[list[str]]:
    failures = report.failures
    for each in report.outcomes:
        values = [short_number(each.value(name)) for name in report.config.numbers]
        took = [f"{each.kimg:,.0f}", duration(each.seconds)] if each.seconds else ["", ""]
        keys = in_words(each.keys) if each.stage == SEARCH else ""
        yield [each.name, each.state, *values, *took, "; ".join(filter(None, (failures[each.name], keys)))]
