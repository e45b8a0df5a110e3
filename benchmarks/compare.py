"""Studies, and scripts that are no recipes, in one table.

    python -m benchmarks.compare vanilla --scripts plain --seeds 4 --jobs 2 --data-dir DATA --work WORK --out OUT
    python -m benchmarks.compare vanilla mnist --seeds 10 --data-dir DATA --work WORK --out benchmarks/mnist

A study is the name of a file in benchmarks/studies, or a file of your own; docs/studies.md says what it holds. The base
of a study has the name of its file in the table. Several studies may differ in their budgets, which the arms of one may
not. Scripts have the budget and the seeds of the first study. The others are compared with the first arm: a script, if
there is one.

`--jobs` trains several runs in parallel, each with its share of the cores. Finished runs in WORK are not repeated.
OUT.md is the table, OUT.json has all results.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from benchmarks.machine import PATH, ROOT, commit, describe_machine, threads_per_job, write_report
from benchmarks.scripts import SCRIPTS, Place, outcomes_of_script
from gancore import Study
from gancore.study.definition import BASE, BEST, read_study
from gancore.study.results import COMPARISON, SEARCH, Outcome, StudyReport

STUDIES = ROOT / "benchmarks" / "studies"
REAL = "real data"
_COMMITS = "commits"
"""The file in WORK with the commits at which runs were trained."""


@dataclass(frozen=True)
class Row:
    """A run in OUT.json."""

    arm: str
    seed: int
    seconds: float
    images: float
    finite: bool
    failure: str
    numbers: dict[str, float | None]


def main() -> None:
    arguments = parse()
    place = Place(arguments.data_dir, arguments.work, arguments.jobs)
    seeds = {} if arguments.seeds is None else {"seeds": arguments.seeds}
    studies = {
        file.stem: trained(place, file.stem, read_study(file).model_dump(exclude_unset=True) | seeds)
        for file in map(file_of, arguments.studies)
    }
    first = next(iter(studies.values()))
    outcomes = [each for script in arguments.scripts for each in outcomes_of_script(place, script, first)]
    outcomes += [each for name, study in studies.items() for each in outcomes_of(study, name)]
    options = f" --scripts {' '.join(arguments.scripts)}" if arguments.scripts else ""
    options += f" --seeds {arguments.seeds}" if arguments.seeds is not None else ""
    command = f"benchmarks.compare {' '.join(arguments.studies)}{options} --jobs {place.jobs}"
    found = [f"{name}: {sentence}" for name, study in studies.items() for sentence in study.report.search_in_words()]
    write(arguments.out, combined(outcomes, first), place, command, [each for line in found for each in ("", line)])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    names = ", ".join(sorted(file.stem for file in STUDIES.glob("*.toml")))
    parser.add_argument("studies", nargs="+", metavar="STUDY", help=f"a TOML file, or one of {names}")
    parser.add_argument("--scripts", nargs="+", choices=SCRIPTS, default=[], help="scripts to compare with")
    parser.add_argument("--seeds", type=int, help="number of seeds  [default: that of each study]")
    add_places(parser)
    parsed = parser.parse_args(arguments)
    for name in parsed.studies:
        if not file_of(name).is_file():
            parser.error(f"there is no study {name!r}; known are {names}")
    return parsed


def add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1, help="runs to train in parallel")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with the files of datasets")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and samples")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")


def file_of(study: str) -> Path:
    return Path(study) if study.endswith(".toml") else STUDIES / f"{study}.toml"


def trained(place: Place, name: str, fields: Mapping[str, object]) -> Study:
    """Train and measure the runs of a study that are not finished yet."""
    fields = {**fields, "threads": threads_per_job(place.jobs)}
    study = Study(fields, out=place.work / name, data_dir=place.data_dir, device="cpu")
    os.environ["PYTHONPATH"] = PATH  # where workers find this working tree
    note_commit = cache(partial(_note_commit, place))

    def note(line: str) -> None:
        note_commit()  # only where a run is left
        print(line, flush=True)

    study.run(workers=place.jobs, note=note)
    return study


def _note_commit(place: Place) -> None:
    with (place.work / _COMMITS).open("a", encoding="utf-8") as file:
        file.write(f"{commit()}\n")


def outcomes_of(study: Study, name: str) -> list[Outcome]:
    """Return the results of a study, whose base has another name, and likewise what a search has tried and found."""
    names = {BASE: name} | ({BEST: f"{name}-best", SEARCH: f"{name}-search"} if study.config.is_search else {})
    return [
        replace(each, name=f"{name}/{each.name}", arm=names.get(each.arm, each.arm)) for each in study.report.outcomes
    ]


def combined(outcomes: Sequence[Outcome], first: Study) -> StudyReport:
    """Return one report of all results, in which the first arm is the baseline."""
    baseline = next(each.arm for each in outcomes if each.stage == COMPARISON)
    config = first.config.model_copy(update={"baseline": baseline, "space": {}})
    return replace(first.report, config=config, outcomes=outcomes)


def write(out: Path, report: StudyReport, place: Place, command: str, notes: Sequence[str] = ()) -> None:
    write_report(out, text_of(report, out.name, place, command, notes), rows_of(report))


def rows_of(report: StudyReport) -> list[Row]:
    failures = report.failures
    rows = [
        Row(
            each.arm,
            each.seed,
            each.seconds,
            1000 * each.kimg,
            not each.failure,
            failures[each.name] or "",
            dict(each.numbers),
        )
        for each in report.outcomes
    ]
    return [Row(REAL, 0, 0, 0, True, "", dict(report.real_data)), *rows]


def text_of(report: StudyReport, name: str, place: Place, command: str, notes: Sequence[str] = ()) -> str:
    lines = [
        f"# {name}",
        "",
        f"`python -m {command}`, with --data-dir, --work and --out, at commit {commits(place)}. "
        f"{describe_machine(place.jobs)}",
        "",
        *(f"- {sentence}" for sentence in report.conclusions()),
        "",
        f"Compared with {report.reported_by}. {report.rule()}",
        *notes,
        "",
        *markdown(report.table()),
        "",
        "All runs:",
        "",
        *markdown(points(report)),
    ]
    return "\n".join(lines) + "\n"


def points(report: StudyReport) -> list[list[str]]:
    """Return the lines of a table of all runs, the heading first."""
    numbers, failures = list(report.config.numbers), report.failures
    lines = [["arm", "seed", *numbers, "kimg", "seconds", "failed"]]
    for each in report.outcomes:
        values = [f"{each.value(number):.4g}" for number in numbers]
        took = [f"{each.kimg:,.0f}", f"{each.seconds:.0f}"]
        lines.append([each.arm, str(each.seed), *values, *took, failures[each.name] or ""])
    return lines


def commits(place: Place) -> str:
    return ", ".join(sorted(set((place.work / _COMMITS).read_text(encoding="utf-8").split())))


def markdown(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    heading, *below = (f"| {' | '.join(cells)} |" for cells in lines)
    yield heading
    yield "| --- |" + " --- |" * (len(lines[0]) - 1)
    yield from below


if __name__ == "__main__":
    main()
