"""Quality beside the plain script: the same images, or the same seconds, over several seeds.

    python -m benchmarks.quality vanilla --data-dir DATA --seeds 6 --epochs 50 --work WORK --out benchmarks/quality

For every seed the plain script trains for so many epochs of MNIST. Each recipe then trains on as many images, and
again for as many seconds as the script just took. All draw 10,000 samples, and three classifiers measure them, with
real training images beside them. `--jobs` runs so many at once, each with its share of the cores. What is finished in
WORK is not done again, so an interrupted benchmark goes on where it stopped. OUT.md is the table, OUT.json every point.
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

from benchmarks.machine import ProgramError, called, commit, described
from gancore import Catalog, Evaluator, Source, Workplace, read_images, resolve
from gancore.config import read_dataset, read_layers
from gancore.naming import find_metric
from gancore.sources import reference_of

SAMPLES = 10_000
JUDGES = 3
SHOWN = ("fd-digits", "coverage-digits", "density-digits", "precision-digits", "class-kl-digits", "fd-random")
"""Columns of the table; fd-digits is the mean of all judges, the others are the first judge's."""
OTHERS = (*SHOWN[1:], "recall-digits", "memorisation-digits")
PLAIN = "plain script"
REAL = "real data"
DIVERGED = 6
"""The exit code of a run whose samples are not finite."""


@dataclass(frozen=True)
class Point:
    """One training: which arm it is of, its seed, what it took, with which code, and what its samples are worth."""

    arm: str
    seed: int
    seconds: float
    images: float
    finite: bool
    commit: str
    numbers: dict[str, float]

    def failed(self, usual: float) -> bool:
        """Not finite, a class below 1 %, nothing precise, or three times as far away as the plain script usually is."""
        if not self.finite:
            return True
        values = self.numbers
        rare = values["class-kl-digits.rarest_share"] < 0.01
        return rare or values["precision-digits"] < 0.1 or not values["fd-digits"] <= 3 * usual


def main() -> None:
    arguments = parsed()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        trained = list(chain.from_iterable(pool.map(partial(train_all, arguments), range(arguments.seeds))))
    points = list(measured(trained, arguments))
    text = report(points, arguments)
    arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
    data = json.dumps([asdict(point) for point in points], indent=1)
    arguments.out.with_suffix(".json").write_text(data + "\n", encoding="utf-8")
    print(text)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("recipes", nargs="+", help="recipes for MNIST")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--cache", type=Path, help="folder for the classifiers  [default: inside --work]")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50, help="of the plain script")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and samples")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    arguments = parser.parse_args()
    catalog = Catalog.installed()
    for recipe in arguments.recipes:
        dataset = resolve(read_layers(recipe, catalog), catalog).dataset.name
        if dataset != "mnist":
            parser.error(f"recipes must be for mnist, as the plain script is; {recipe} is for {dataset}")
    return arguments


def train_all(arguments: argparse.Namespace, seed: int) -> list[Point]:
    """All arms of one seed, one after the other; the recipes' seconds are those of the script with this seed."""
    plain = train(arguments, PLAIN, seed, partial(plain_script, arguments, seed))
    points = [plain]
    for recipe in arguments.recipes:
        images, seconds = f"--kimg={plain.images / 1000:g}", f"--minutes={plain.seconds / 60:.6f}"
        for budget, total in (("equal images", images), ("equal seconds", seconds)):
            make = partial(run, arguments, recipe, total, seed)
            points.append(train(arguments, f"{recipe}, {budget}", seed, make))
    return points


def samples_of(arguments: argparse.Namespace, arm: str, seed: int) -> Path:
    work: Path = arguments.work
    return work / f"{arm.replace(', ', '-').replace(' ', '-')}-{arguments.epochs}-epochs-{seed}.npy"


def train(arguments: argparse.Namespace, arm: str, seed: int, make: Callable[[Path], dict[str, object]]) -> Point:
    """Trains, unless what this arm took is noted already."""
    samples = samples_of(arguments, arm, seed)
    noted = samples.with_suffix(".json")
    if not noted.exists():
        print(f"{arm}, seed {seed}", flush=True)
        noted.write_text(json.dumps(make(samples) | {"commit": commit()}))
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
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {"seconds": last["seconds"], "images": last["kimg"] * 1000, "finite": finite}


def measured(points: Iterable[Point], arguments: argparse.Namespace) -> Iterator[Point]:
    """The points with their numbers, and in front of them real training images, drawn with each seed."""
    catalog = Catalog.installed()
    place = Workplace(arguments.data_dir, arguments.cache or arguments.work / "cache", torch.device("cpu"))
    dataset = read_dataset("mnist", catalog)
    training, reference = (Source.of(each, arguments.data_dir) for each in (dataset, reference_of(dataset)[0]))
    judges = {name: find_metric(name, catalog) for name in OTHERS}
    for seed in range(JUDGES):
        table = f"{{name = 'fd', extractor = {{name = 'digits', seed = {seed}}}}}"
        judges[f"fd-digits-{seed}"] = find_metric(table, catalog)
    evaluator = Evaluator(judges, place, reference, training, held_out=True, count=SAMPLES, seed=0)
    for preparation in evaluator.prepare():
        print(f"\r{preparation.what}: {preparation.done:.0%}", end="\n" if preparation.done == 1 else "", flush=True)

    def numbers(images: torch.Tensor) -> dict[str, float]:
        found = evaluator.evaluate(images).numbers()
        return {"fd-digits": fmean(found[f"fd-digits-{seed}"] for seed in range(JUDGES))} | found

    for seed in range(arguments.seeds):
        yield Point(REAL, seed, 0, 0, True, commit(), numbers(training.draw(SAMPLES, seed, "benchmark")))
    for point in points:
        found = numbers(read_images(samples_of(arguments, point.arm, point.seed))) if point.finite else {}
        yield Point(**asdict(point) | {"numbers": found})


def report(points: list[Point], arguments: argparse.Namespace) -> str:
    arms = list(dict.fromkeys(point.arm for point in points))
    of = {arm: [point for point in points if point.arm == arm] for arm in arms}
    script = values(of[PLAIN], "fd-digits")
    recipes = " ".join(arguments.recipes)
    lines = [
        "# Quality beside the plain script",
        "",
        f"`python -m benchmarks.quality {recipes} --seeds {arguments.seeds} --epochs {arguments.epochs} --jobs "
        f"{arguments.jobs}`, with --data-dir, --work and --out, at commit "
        f"{', '.join(sorted({point.commit for point in points}))}. {described(arguments.jobs)}",
        "",
        f"MNIST, {SAMPLES:,} samples against all 10,000 test images; fd-digits is the mean of {JUDGES} classifiers of "
        f"seeds 0 to {JUDGES - 1}. Medians over {arguments.seeds} seeds, lowest and highest in brackets. Failed: not "
        "finite, a class below 1 %, precision below 0.1, or fd-digits above three times the plain script's median. "
        "Ratio: of the medians of fd-digits, to the plain script, with its 95 % interval (bootstrap); p: Mann-Whitney, "
        "two-sided. Seconds are those of training alone.",
        "",
        "| arm | " + " | ".join(SHOWN) + " | failed | ratio | p | seconds | kimg |",
        "| --- |" + " --- |" * (len(SHOWN) + 5),
    ]
    for arm in arms:
        cells = [spread(values(of[arm], name)) for name in SHOWN]
        failed = sum(point.failed(median(script)) for point in of[arm])
        own = values(of[arm], "fd-digits")
        against = (
            ["", ""] if arm in (PLAIN, REAL) else [interval(own, script), f"{mannwhitneyu(own, script).pvalue:.2g}"]
        )
        seconds, images = (median(getattr(point, key) for point in of[arm]) for key in ("seconds", "images"))
        took = ["", ""] if arm == REAL else [f"{seconds:.0f}", f"{images / 1000:,.0f}"]
        lines.append(f"| {arm} | {' | '.join([*cells, f'{failed} of {len(of[arm])}', *against, *took])} |")
    lines += ["", "Every point:", "", "| arm | seed | " + " | ".join(SHOWN) + " | rarest class | seconds |"]
    lines.append("| --- | --- |" + " --- |" * (len(SHOWN) + 2))
    for point in points:
        cells = [f"{point.numbers.get(name, math.nan):.4g}" for name in SHOWN]
        rarest = f"{point.numbers.get('class-kl-digits.rarest_share', math.nan):.1%}"
        seconds_cell = f"{point.seconds:.0f}" if point.seconds else ""
        lines.append(f"| {point.arm} | {point.seed} | {' | '.join([*cells, rarest, seconds_cell])} |")
    return "\n".join(lines) + "\n"


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
