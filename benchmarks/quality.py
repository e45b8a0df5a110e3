"""Quality beside the plain script: the same images, the same seconds, or any other total, over several seeds.

    python -m benchmarks.quality plain vanilla=images vanilla=seconds --seeds 4 --data-dir DATA --work WORK --out OUT
    python -m benchmarks.quality "vanilla=50 epochs" "mnist=1 minutes" --seeds 10 --seeds-of-first 4 ...

An arm is `plain`, the script, or RECIPE=TOTAL: a duration of gancore, or `images` and `seconds` for those that the
script took with the same seed. The first arm is what the others are compared with. All draw 10,000 samples, and three
classifiers measure them, with real training images beside them. `--jobs` runs so many at once, each with its share of
the cores. What is finished in WORK is not done again, so an interrupted benchmark goes on where it stopped, and arms
may be trained with several values of `--jobs`, one after the other. OUT.md is the table, OUT.json every point.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
from scipy.stats import mannwhitneyu

from benchmarks.machine import ProgramError, called, commit, described, keep, threads
from gancore import Catalog, EvaluationPaths, Evaluator, ReferenceImages, read_images, resolve
from gancore.config.duration import Duration
from gancore.config.metric_names import find_metric
from gancore.config.run import read_dataset, read_layers
from gancore.evaluation.evaluator import SampleOrigin
from gancore.evaluation.sources import reference_of

SAMPLES = 10_000
JUDGES = 3
SHOWN = ("fd-digits", "coverage-digits", "density-digits", "precision-digits", "class-kl-digits", "fd-random")
"""Columns of the table; fd-digits is the mean of all judges, the others are the first judge's."""
OTHERS = (*SHOWN[1:], "recall-digits", "memorization-digits")
PLAIN = "plain"
OF_SCRIPT = ("images", "seconds")
"""Totals that are those of the plain script."""
REAL = "real data"
DRAWN = 4
"""Times that real images are drawn, at most."""
DIVERGED = 6
"""The exit code of a run whose samples are not finite."""


@dataclass(frozen=True)
class Point:
    """One training: which arm it is of, its seed, what it took, with which code, and what its samples are worth."""

    arm: str
    seed: int
    seconds: float
    images: float
    threads: int
    finite: bool
    commit: str
    numbers: dict[str, float]

    def failed(self, usual: float) -> bool:
        """Not finite, a class below 1 %, nothing precise, or three times as far away as the first arm usually is."""
        if not self.finite:
            return True
        values = self.numbers
        rare = values["class-kl-digits.rarest_share"] < 0.01
        return rare or values["precision-digits"] < 0.1 or not values["fd-digits"] <= 3 * usual


def main() -> None:
    arguments = parsed()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        seeds = range(max(arguments.seeds, seeds_of(arguments, arguments.arms[0])))
        trained = list(chain.from_iterable(pool.map(partial(train_all, arguments), seeds)))
    pace = None if PLAIN in arguments.arms else script_pace(arguments)
    points = list(measured(trained, arguments))
    keep(arguments.out, report(points, arguments, pace), points)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("arms", nargs="+", help=f"{PLAIN}, or RECIPE=TOTAL of a recipe for MNIST")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--cache", type=Path, help="folder for the classifiers  [default: inside --work]")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seeds-of-first", type=int, help="of the first arm, if it has others")
    parser.add_argument("--epochs", type=int, default=50, help="of the plain script")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and samples")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    arguments = parser.parse_args()
    catalog = Catalog.installed()
    for arm in arguments.arms:
        recipe, _, total = arm.partition("=")
        if arm == PLAIN:
            continue
        if not total or (total in OF_SCRIPT and PLAIN not in arguments.arms):
            parser.error(f"an arm is {PLAIN} or RECIPE=TOTAL, with {PLAIN} too where the total is its; received {arm}")
        dataset = resolve(read_layers(recipe, catalog), catalog).dataset.name
        if dataset != "mnist":
            parser.error(f"recipes must be for mnist, as the plain script is; {recipe} is for {dataset}")
    return arguments


def seeds_of(arguments: argparse.Namespace, arm: str) -> int:
    first: int | None = arguments.seeds_of_first
    seeds: int = arguments.seeds
    return seeds if first is None or arm != arguments.arms[0] else first


def train_all(arguments: argparse.Namespace, seed: int) -> list[Point]:
    """All arms of one seed, one after the other; the script first, since others may go by what it took."""
    points: list[Point] = []
    script: Point | None = None
    for arm in sorted(arguments.arms, key=lambda arm: arm != PLAIN):
        if seed >= seeds_of(arguments, arm):
            continue
        if arm == PLAIN:
            script = train(arguments, PLAIN, seed, partial(plain_script, arguments, seed))
            points.append(script)
            continue
        recipe, _, total = arm.partition("=")
        options = total_of(total, script)
        points.append(train(arguments, arm, seed, partial(run, arguments, recipe, options, seed)))
    return points


def total_of(total: str, script: Point | None) -> str:
    """The option that sets this total."""
    if script and total in OF_SCRIPT:
        return {"images": f"--kimg={script.images / 1000:g}", "seconds": f"--minutes={script.seconds / 60:.6f}"}[total]
    duration = Duration.parse(total)
    return f"--{duration.unit}={duration.amount:g}"


def script_pace(arguments: argparse.Namespace) -> float:
    """Seconds an epoch of the plain script here, by one epoch with all cores."""
    samples = arguments.work / "pace.npy"
    said = called("benchmarks.plain", "--data-dir", arguments.data_dir, "--epochs", 1, "--out", samples)
    seconds: float = json.loads(said)["seconds"]
    return seconds


def samples_of(arguments: argparse.Namespace, arm: str, seed: int) -> Path:
    work: Path = arguments.work
    budget = f"-{arguments.epochs}-epochs" if arm == PLAIN or arm.endswith(OF_SCRIPT) else ""
    return work / f"{arm.replace('=', '-').replace(' ', '-')}{budget}-{seed}.npy"


def train(arguments: argparse.Namespace, arm: str, seed: int, make: Callable[[Path], dict[str, object]]) -> Point:
    """Trains, unless what this arm took is noted already."""
    samples = samples_of(arguments, arm, seed)
    noted = samples.with_suffix(".json")
    if not noted.exists():
        print(f"{arm}, seed {seed}", flush=True)
        noted.write_text(json.dumps(make(samples) | {"threads": threads(arguments.jobs), "commit": commit()}))
    return Point(arm=arm, seed=seed, numbers={}, **json.loads(noted.read_text()))


def plain_script(arguments: argparse.Namespace, seed: int, out: Path) -> dict[str, object]:
    command = ["benchmarks.plain", "--data-dir", arguments.data_dir, "--epochs", arguments.epochs, "--seed", seed]
    took: dict[str, object] = json.loads(called(*command, "--out", out, jobs=arguments.jobs))
    return took


def run(arguments: argparse.Namespace, recipe: str, total: str, seed: int, out: Path) -> dict[str, object]:
    """Trains without looking at samples in between, and draws them at the end."""
    folder = out.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted benchmark
    aside = ["metrics=none", "sample.every_kimg=1e9", "evaluate.every_kimg=1e9", "checkpoint.every_steps=1000000000"]
    sets = list(chain.from_iterable(("--set", each) for each in aside))
    where = ["--data-dir", arguments.data_dir, "--seed", seed, "--out", folder, "--device", "cpu", "-q"]
    finite = True
    try:
        called("gancore_cli", "train", recipe, total, *where, *sets, jobs=arguments.jobs)
        drawn = ["-n", SAMPLES, "--seed", seed, "--out", out, "--device", "cpu", "-q"]
        called("gancore_cli", "sample", folder, *drawn, jobs=arguments.jobs)
    except ProgramError as failure:
        if failure.code != DIVERGED:
            raise
        finite = False
    log = folder / "metrics.jsonl"  # of a run that went wrong at once there is none
    last = json.loads(log.read_text().splitlines()[-1]) if log.exists() else {"seconds": 0.0, "kimg": 0.0}
    return {"seconds": last["seconds"], "images": last["kimg"] * 1000, "finite": finite}


def measured(points: Iterable[Point], arguments: argparse.Namespace) -> Iterator[Point]:
    """The points with their numbers, and in front of them real training images, drawn a few times."""
    catalog = Catalog.installed()
    place = EvaluationPaths(arguments.data_dir, arguments.cache or arguments.work / "cache", torch.device("cpu"))
    dataset = read_dataset("mnist", catalog)
    training, reference = (ReferenceImages.of(each, arguments.data_dir) for each in (dataset, reference_of(dataset)[0]))
    judges = {name: find_metric(name, catalog) for name in OTHERS}
    for seed in range(JUDGES):
        table = f"{{name = 'fd', extractor = {{name = 'digits', seed = {seed}}}}}"
        judges[f"fd-digits-{seed}"] = find_metric(table, catalog)
    evaluator = Evaluator(judges, place, reference, SampleOrigin(training, held_out=True), count=SAMPLES, seed=0)
    for preparation in evaluator.prepare():
        print(f"\r{preparation.what}: {preparation.done:.0%}", end="\n" if preparation.done == 1 else "", flush=True)

    def numbers(images: torch.Tensor) -> dict[str, float]:
        found = evaluator.evaluate(images).numbers()
        return {"fd-digits": fmean(found[f"fd-digits-{seed}"] for seed in range(JUDGES))} | found

    for seed in range(min(arguments.seeds, DRAWN)):
        yield Point(REAL, seed, 0, 0, 0, True, commit(), numbers(training.draw(SAMPLES, seed, "benchmark")))
    for point in points:
        found = numbers(read_images(samples_of(arguments, point.arm, point.seed))) if point.finite else {}
        yield Point(**asdict(point) | {"numbers": found})


def report(points: list[Point], arguments: argparse.Namespace, pace: float | None = None) -> str:
    arms = list(dict.fromkeys(point.arm for point in points))
    of = {arm: [point for point in points if point.arm == arm] for arm in arms}
    base = arguments.arms[0]
    usual = values(of[base], "fd-digits")
    asked = " ".join(f'"{arm}"' if " " in arm else arm for arm in arguments.arms)
    first = f" --seeds-of-first {arguments.seeds_of_first}" if arguments.seeds_of_first else ""
    lines = [
        "# Quality beside the plain script",
        "",
        f"`python -m benchmarks.quality {asked} --seeds {arguments.seeds}{first} --epochs {arguments.epochs}`, with "
        f"--data-dir, --work and --out, at commit {', '.join(sorted({point.commit for point in points}))}. "
        f"{described()}",
        "",
        f"MNIST, {SAMPLES:,} samples against all 10,000 test images; fd-digits is the mean of {JUDGES} classifiers of "
        f"seeds 0 to {JUDGES - 1}. Medians over the seeds, lowest and highest in brackets. Failed: not finite, a class "
        f"below 1 %, precision below 0.1, or fd-digits above three times the median of {base}. Ratio: of the medians "
        f"of fd-digits, to {base}, with its 95 % interval (bootstrap); p: Mann-Whitney, two-sided. Seconds are those "
        "of training alone, with so many threads.",
    ]
    if pace is not None:
        lines += [
            "",
            f"The plain script takes {pace:.1f} s for an epoch here with {threads(1)} threads, so about "
            f"{pace * arguments.epochs:.0f} s for {arguments.epochs}.",
        ]
    lines += [
        "",
        "| arm | " + " | ".join(SHOWN) + " | failed | ratio | p | seconds | threads | kimg |",
        "| --- |" + " --- |" * (len(SHOWN) + 6),
    ]
    for arm in arms:
        cells = [spread(values(of[arm], name)) for name in SHOWN]
        failed = sum(point.failed(median(usual)) for point in of[arm])
        own = values(of[arm], "fd-digits")
        against = ["", ""] if arm in (base, REAL) else [interval(own, usual), f"{mannwhitneyu(own, usual).pvalue:.2g}"]
        lines.append(f"| {arm} | {' | '.join([*cells, f'{failed} of {len(of[arm])}', *against, *took(of[arm])])} |")
    lines += ["", "Every point:", "", "| arm | seed | " + " | ".join(SHOWN) + " | rarest class | seconds |"]
    lines.append("| --- | --- |" + " --- |" * (len(SHOWN) + 2))
    for point in points:
        cells = [f"{point.numbers.get(name, math.nan):.4g}" for name in SHOWN]
        rarest = f"{point.numbers.get('class-kl-digits.rarest_share', math.nan):.1%}"
        seconds = f"{point.seconds:.0f}" if point.seconds else ""
        lines.append(f"| {point.arm} | {point.seed} | {' | '.join([*cells, rarest, seconds])} |")
    return "\n".join(lines) + "\n"


def took(points: list[Point]) -> list[str]:
    """Cells: what an arm took."""
    if points[0].arm == REAL:
        return ["", "", ""]
    seconds, images = (median(getattr(point, key) for point in points) for key in ("seconds", "images"))
    used = sorted({point.threads for point in points})
    return [f"{seconds:.0f}", " or ".join(map(str, used)), f"{images / 1000:,.0f}"]


def values(points: list[Point], name: str) -> list[float]:
    """Of the points that are finite."""
    return [point.numbers[name] for point in points if point.finite] or [math.nan]


def spread(numbers: list[float]) -> str:
    return f"{median(numbers):.4g} ({min(numbers):.4g} to {max(numbers):.4g})"


def interval(numbers: list[float], others: list[float]) -> str:
    """The ratio of the medians, and where 95 % of its bootstrap lie."""
    dice = np.random.default_rng(0)
    above, below = (np.median(dice.choice(each, (10_000, len(each))), axis=1) for each in (numbers, others))
    low, high = np.quantile(above / below, (0.025, 0.975))
    return f"{median(numbers) / median(others):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
