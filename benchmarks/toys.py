"""Mode coverage on 2D toy data: the recipes made for it, and the baseline on the same data, over many seeds.

    python -m benchmarks.toys --seeds 30 --jobs 2 --work WORK --out benchmarks/toys

An arm is a recipe on a dataset, and a study of its own: each run is trained to its end, and the metric `modes` measures
2,500 samples. `vanilla` trains on as many images as the recipe made for the dataset. The table also has real points and
published results of PacGAN on the same data. `--particlegan` adds ParticleGAN, of which each run takes as many seconds
as that of the recipe with the same seed; see benchmarks/particle.py. `--jobs` trains several runs in parallel, each
with its share of the cores. Finished runs in WORK are not repeated. OUT.md is the table, OUT.json has all runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.compare import REAL, combined, commits, markdown, outcomes_of, points, rows_of, trained
from benchmarks.machine import describe_machine, recorded, write_report
from benchmarks.scripts import Place, Took, outcome_of, training_images
from gancore import Catalog, Study, resolve
from gancore.config.run import read_layers
from gancore.study.results import Outcome, StudyReport

SAMPLES = 2500
MODES = {"ring": 8, "grid": 25}
NUMBERS = ("modes.reverse_kl", "modes", "modes.high_quality", "modes.rarest_share")
PUBLISHED = {
    "ring": {
        "GAN": ("6.3 ± 0.5", "98.2 ± 0.2", "0.45 ± 0.09"),
        "PacGAN2": ("7.9 ± 0.1", "95.6 ± 2.0", "0.07 ± 0.03"),
        "PacGAN3": ("7.8 ± 0.1", "97.7 ± 0.3", "0.10 ± 0.02"),
        "PacGAN4": ("7.8 ± 0.1", "95.9 ± 1.4", "0.07 ± 0.02"),
    },
    "grid": {
        "GAN": ("17.3 ± 0.8", "94.8 ± 0.7", "0.70 ± 0.07"),
        "PacGAN2": ("23.8 ± 0.7", "91.3 ± 0.8", "0.13 ± 0.04"),
        "PacGAN3": ("24.6 ± 0.4", "94.2 ± 0.4", "0.06 ± 0.02"),
        "PacGAN4": ("24.8 ± 0.2", "93.6 ± 0.6", "0.04 ± 0.01"),
    },
}
"""Lin et al. 2018 (arXiv:1712.04086), table 1: modes, % of high quality, reverse KL; ten runs of 400,000 steps."""
PUBLISHED_KIMG = 40_000
"""400 epochs of 1,000 batches of 100."""
PARTICLE_RECIPES = ("gan", "e22")
"""Recipes of ParticleGAN: its default, and the one that its README has for mixtures of normal distributions."""


def main() -> None:
    arguments = parse()
    place = Place(arguments.work, arguments.work, arguments.jobs)
    reports = {dataset: compared(arguments, place, dataset) for dataset in arguments.datasets}
    rows = [
        replace(row, arm=f"{REAL} of {dataset}") if row.arm == REAL else row
        for dataset, report in reports.items()
        for row in rows_of(report)
    ]
    write_report(arguments.out, text_of(reports, arguments, place), rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--seeds-of-baseline", type=int, default=10, help="seeds of vanilla, whose runs take long")
    parser.add_argument("--particlegan", type=int, default=0, help="seeds of ParticleGAN, which must be installed")
    parser.add_argument("--datasets", nargs="+", choices=MODES, default=list(MODES), help="[default: all]")
    parser.add_argument("--kimg", type=float, help="thousands of images  [default: as the recipe of the dataset]")
    parser.add_argument("--jobs", type=int, default=1, help="runs to train in parallel")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished runs")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    return parser.parse_args(arguments)


def fields(recipe: str, dataset: str, seeds: int, kimg: float | None) -> dict[str, object]:
    """Return the study of a recipe on a dataset, as long as the recipe made for the dataset."""
    catalog = Catalog.installed()
    return {
        "base": {"recipe": recipe, "dataset": {"name": dataset}},
        "budget": f"{kimg:g} kimg" if kimg else resolve(read_layers(dataset, catalog), catalog).duration,
        "seeds": seeds,
        "metric": NUMBERS[0],
        "better": "lower",
        "metrics": NUMBERS[1:],
        "samples": SAMPLES,
    }


def compared(arguments: argparse.Namespace, place: Place, dataset: str) -> StudyReport:
    """Train and measure all arms of a dataset."""
    tuned = trained(place, dataset, fields(dataset, dataset, arguments.seeds, arguments.kimg))
    own = outcomes_of(tuned, dataset)
    outcomes = [*own]
    if arguments.seeds_of_baseline:
        name = f"vanilla-on-{dataset}"
        baseline = trained(place, name, fields("vanilla", dataset, arguments.seeds_of_baseline, arguments.kimg))
        outcomes += outcomes_of(baseline, name)
    for recipe in PARTICLE_RECIPES:
        outcomes += [particlegan(place, tuned, recipe, each) for each in own[: arguments.particlegan]]
    return combined(outcomes, tuned)


def particlegan(place: Place, study: Study, recipe: str, like: Outcome) -> Outcome:
    """Train ParticleGAN for as many seconds as another run, with its seed, unless WORK has the result."""
    name = f"particlegan-{recipe}-on-{study.path.name}"
    record = place.work / f"{name}-{like.seconds:.0f}-{like.seed}.json"
    return recorded(record, Outcome, partial(train_particlegan, study, recipe, name, like))


def train_particlegan(study: Study, recipe: str, name: str, like: Outcome) -> Outcome:
    from benchmarks.particle import train_for  # the package may be missing

    training = training_images(study)
    points = training.draw(len(training), 0, "all")
    std = training.mixture.std if training.mixture else 0.0
    start = perf_counter()
    samples, seen = train_for(like.seconds, points, recipe, std, like.seed, SAMPLES)
    seconds, is_finite = perf_counter() - start, bool(samples.isfinite().all())
    took = Took(seconds, seen, is_finite)
    return outcome_of(study, name, like.seed, took, samples if is_finite else None)


def text_of(reports: Mapping[str, StudyReport], arguments: argparse.Namespace, place: Place) -> str:
    more = "" if arguments.datasets == list(MODES) else f" --datasets {' '.join(arguments.datasets)}"
    more += f" --kimg {arguments.kimg:g}" if arguments.kimg else ""
    more += f" --particlegan {arguments.particlegan}" if arguments.particlegan else ""
    first = next(iter(reports.values()))
    lines = [
        "# Mode coverage on 2D toy data",
        "",
        f"`python -m benchmarks.toys --seeds {arguments.seeds} --seeds-of-baseline {arguments.seeds_of_baseline}"
        f"{more} --jobs {arguments.jobs}`, with --work and --out, at commit {commits(place)}. "
        f"{describe_machine(arguments.jobs)}",
        "",
        f"{SAMPLES:,} samples. {first.rule()} A class is a mode. modes.high_quality: the share of samples within 3 "
        "standard deviations of a center; modes.rarest_share: the smallest share of a mode.",
    ]
    for dataset, report in reports.items():
        complete = ", ".join(
            f"{arm} {sum(run.numbers.get('modes') == MODES[dataset] for run in runs)} of {len(runs)}"
            for arm, runs in report.arms.items()
        )
        lines += ["", f"## {dataset}, {MODES[dataset]} modes", ""]
        lines += [f"- {sentence}" for sentence in report.conclusions()]
        lines += [
            f"- Runs with every mode: {complete}.",
            "",
            *markdown(report.table()),
            "",
            *markdown(points(report)),
            "",
        ]
        lines += ["Published, Lin et al. 2018 (arXiv:1712.04086), table 1, means of ten runs of 400,000 steps:", ""]
        published = [[method, *numbers, f"{PUBLISHED_KIMG:,}"] for method, numbers in PUBLISHED[dataset].items()]
        lines += markdown([["method", "modes", "high quality, %", "reverse KL", "kimg"], *published])
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
