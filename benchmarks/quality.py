"""Quality compared with the plain script: for the same images, the same seconds, or any duration, over several seeds.

    python -m benchmarks.quality plain vanilla=images vanilla=seconds --seeds 4 --data-dir DATA --work WORK --out OUT
    python -m benchmarks.quality "vanilla=50 epochs" "mnist=1 minutes" --seeds 10 --seeds-of-first 4 ...

An arm is `plain`, the script, or RECIPE=DURATION: a duration of gancore, or `images` or `seconds` for as many as the
script took with the same seed. RECIPE may be a TOML file, such as benchmarks/mnist-bf16.toml. The other arms are
compared with the first one. Each draws 10,000 samples, which three classifiers measure; real training images are
measured too. `--jobs` trains several runs in parallel, each with its share of the cores. Finished runs in WORK are not
repeated: an interrupted benchmark resumes where it stopped, and arms may be trained one after the other with different
`--jobs`. OUT.md is the table, OUT.json has all results.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
from scipy.stats import mannwhitneyu

from benchmarks.machine import (
    ProgramError,
    commit,
    describe_machine,
    grouped,
    run_module,
    threads_per_job,
    write_report,
)
from gancore import Catalog, EvaluationPaths, Evaluator, ReferenceImages, read_images, resolve
from gancore.config.duration import Duration
from gancore.config.metric_names import find_metric
from gancore.config.run import read_dataset, read_layers
from gancore.evaluation.evaluator import SampleOrigin
from gancore.evaluation.sources import reference_of
from gancore.metrics import Metric
from gancore_plugins.extractors.classifier import ClassifierExtractor

SAMPLES = 10_000
CLASSIFIERS = 3
COLUMNS = (
    "fd-classifier",
    "coverage-classifier",
    "density-classifier",
    "precision-classifier",
    "class-kl-classifier",
    "fd-random",
)
"""Columns of the table; fd-classifier is the mean over all classifiers, the others are of the first classifier."""
METRICS = (*COLUMNS[1:], "recall-classifier", "memorization-classifier")
PLAIN = "plain"
SAME_AS_SCRIPT = ("images", "seconds")
"""Durations that mean as many as the plain script took."""
REAL = "real data"
REAL_DRAWS = 4
"""Times that real images are drawn, at most."""
DIVERGED = 6
"""The exit code of a run whose samples are not finite."""


@dataclass(frozen=True)
class Result:
    """One training: its arm and seed, what it took, the commit, and the metrics of its samples in `numbers`."""

    arm: str
    seed: int
    seconds: float
    images: float
    threads: int
    finite: bool
    commit: str
    numbers: dict[str, float]

    def failed(self, baseline: float) -> bool:
        """Return whether it is not finite, lacks a class, is not precise, or has 3 times the base's fd-classifier."""
        if not self.finite:
            return True
        values = self.numbers
        lacks_class = values["class-kl-classifier.rarest_share"] < 0.01
        return lacks_class or values["precision-classifier"] < 0.1 or not values["fd-classifier"] <= 3 * baseline


def main() -> None:
    arguments = parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        seeds = range(max(arguments.seeds, seeds_of(arguments, arguments.arms[0])))
        trained = list(chain.from_iterable(pool.map(partial(train_all, arguments), seeds)))
    pace = None if PLAIN in arguments.arms else script_pace(arguments)
    results = list(measure(trained, arguments))
    write_report(arguments.out, report(results, arguments, pace), results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("arms", nargs="+", help=f"{PLAIN}, or RECIPE=DURATION of a recipe for MNIST")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--cache", type=Path, help="folder for the classifiers  [default: inside --work]")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seeds-of-first", type=int, help="seeds of the first arm  [default: --seeds]")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of the plain script")
    parser.add_argument("--jobs", type=int, default=1, help="runs to train in parallel")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and samples")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    arguments = parser.parse_args()
    catalog = Catalog.installed()
    for arm in arguments.arms:
        recipe, _, duration = arm.partition("=")
        if arm == PLAIN:
            continue
        if not duration or (duration in SAME_AS_SCRIPT and PLAIN not in arguments.arms):
            parser.error(f"an arm must be {PLAIN} or RECIPE=DURATION, images and seconds need {PLAIN}; received {arm}")
        dataset = resolve(read_layers(recipe, catalog), catalog).dataset.name
        if dataset != "mnist":
            parser.error(f"recipes must train on mnist, like the plain script; {recipe} trains on {dataset}")
    return arguments


def seeds_of(arguments: argparse.Namespace, arm: str) -> int:
    first: int | None = arguments.seeds_of_first
    seeds: int = arguments.seeds
    return seeds if first is None or arm != arguments.arms[0] else first


def train_all(arguments: argparse.Namespace, seed: int) -> list[Result]:
    """Train all arms with one seed; the script first, because other arms may train for as long as it took."""
    results: list[Result] = []
    script: Result | None = None
    for arm in sorted(arguments.arms, key=lambda arm: arm != PLAIN):
        if seed >= seeds_of(arguments, arm):
            continue
        if arm == PLAIN:
            script = train(arguments, PLAIN, seed, partial(plain_script, arguments, seed))
            results.append(script)
            continue
        recipe, _, duration = arm.partition("=")
        option = duration_option(duration, script)
        results.append(train(arguments, arm, seed, partial(run, arguments, recipe, option, seed)))
    return results


def duration_option(duration: str, script: Result | None) -> str:
    """Return the option of `gancore train` that sets this duration."""
    if script and duration in SAME_AS_SCRIPT:
        return {"images": f"--kimg={script.images / 1000:g}", "seconds": f"--minutes={script.seconds / 60:.6f}"}[
            duration
        ]
    parsed = Duration.parse(duration)
    return f"--{parsed.unit}={parsed.amount:g}"


def script_pace(arguments: argparse.Namespace) -> float:
    """Return the seconds of an epoch of the plain script on this machine, measured on one epoch with all cores."""
    samples = arguments.work / "pace.npy"
    output = run_module("benchmarks.plain", "--data-dir", arguments.data_dir, "--epochs", 1, "--out", samples)
    seconds: float = json.loads(output)["seconds"]
    return seconds


def samples_of(arguments: argparse.Namespace, arm: str, seed: int) -> Path:
    work: Path = arguments.work
    budget = f"-{arguments.epochs}-epochs" if arm == PLAIN or arm.endswith(SAME_AS_SCRIPT) else ""
    return work / f"{re.sub('[= /]', '-', arm)}{budget}-{seed}.npy"


def train(arguments: argparse.Namespace, arm: str, seed: int, make: Callable[[Path], dict[str, object]]) -> Result:
    """Train, unless WORK has the record of this arm and seed."""
    samples = samples_of(arguments, arm, seed)
    record = samples.with_suffix(".json")
    if not record.exists():
        print(f"{arm}, seed {seed}", flush=True)
        record.write_text(json.dumps(make(samples) | {"threads": threads_per_job(arguments.jobs), "commit": commit()}))
    return Result(arm=arm, seed=seed, numbers={}, **json.loads(record.read_text()))


def plain_script(arguments: argparse.Namespace, seed: int, out: Path) -> dict[str, object]:
    command = ["benchmarks.plain", "--data-dir", arguments.data_dir, "--epochs", arguments.epochs, "--seed", seed]
    took: dict[str, object] = json.loads(run_module(*command, "--out", out, jobs=arguments.jobs))
    return took


def run(  # the last one is for other data
    arguments: argparse.Namespace, recipe: str, duration: str, seed: int, out: Path, options: Sequence[object] = ()
) -> dict[str, object]:
    """Train without metrics and samples on the way, and draw samples at the end."""
    folder = out.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted benchmark
    off = ["metrics=none", "sample.every_kimg=1e9", "evaluate.every_kimg=1e9", "checkpoint.every_steps=1000000000"]
    sets = list(chain.from_iterable(("--set", each) for each in off))
    where = ["--data-dir", arguments.data_dir, "--seed", seed, "--out", folder, "--device", "cpu", "-q"]
    finite = True
    try:
        run_module("gancore_cli", "train", recipe, duration, *where, *sets, *options, jobs=arguments.jobs)
        drawn = ["-n", SAMPLES, "--seed", seed, "--out", out, "--device", "cpu", "-q"]
        run_module("gancore_cli", "sample", folder, *drawn, jobs=arguments.jobs)
    except ProgramError as failure:
        if failure.code != DIVERGED:
            raise
        finite = False
    log = folder / "metrics.jsonl"  # missing if the first step failed
    last = json.loads(log.read_text().splitlines()[-1]) if log.exists() else {"seconds": 0.0, "kimg": 0.0}
    return {"seconds": last["seconds"], "images": last["kimg"] * 1000, "finite": finite}


def measure(results: Iterable[Result], arguments: argparse.Namespace) -> Iterator[Result]:
    """Return the results of real training images, drawn a few times, and then the results with their metrics."""
    catalog = Catalog.installed()
    paths = EvaluationPaths(arguments.data_dir, arguments.cache or arguments.work / "cache", torch.device("cpu"))
    dataset = read_dataset("mnist", catalog)
    training, reference = (ReferenceImages.of(each, arguments.data_dir) for each in (dataset, reference_of(dataset)[0]))
    metrics = metrics_of(METRICS, catalog)
    evaluator = Evaluator(metrics, paths, reference, SampleOrigin(training, held_out=True), count=SAMPLES, seed=0)
    prepare(evaluator)

    def numbers(images: torch.Tensor) -> dict[str, float]:
        return with_mean(evaluator.evaluate(images).numbers())

    for seed in range(min(arguments.seeds, REAL_DRAWS)):
        yield Result(REAL, seed, 0, 0, 0, True, commit(), numbers(training.draw(SAMPLES, seed, "benchmark")))
    for result in results:
        found = numbers(read_images(samples_of(arguments, result.arm, result.seed))) if result.finite else {}
        yield Result(**asdict(result) | {"numbers": found})


def metrics_of(names: Iterable[str], catalog: Catalog, epochs: int = ClassifierExtractor().epochs) -> dict[str, Metric]:
    """Return these metrics, and fd-classifier of each of the classifiers, which learn for these epochs."""
    metrics: dict[str, Metric] = {}
    wanted = [*((name, 0) for name in names), *((f"fd-classifier-{seed}", seed) for seed in range(CLASSIFIERS))]
    for name, seed in wanted:
        metric, classifier, _ = name.partition("-classifier")
        table = f"{{name = '{metric}', extractor = {{name = 'classifier', seed = {seed}, epochs = {epochs}}}}}"
        metrics[name] = find_metric(table if classifier else name, catalog)
    return metrics


def with_mean(numbers: dict[str, float]) -> dict[str, float]:
    """Return the numbers, and fd-classifier as the mean over the classifiers, if it was measured."""
    distances = [numbers[name] for seed in range(CLASSIFIERS) if (name := f"fd-classifier-{seed}") in numbers]
    return ({"fd-classifier": fmean(distances)} if distances else {}) | numbers


def prepare(evaluator: Evaluator) -> None:
    for preparation in evaluator.prepare():
        print(f"\r{preparation.what}: {preparation.done:.0%}", end="\n" if preparation.done == 1 else "", flush=True)


def report(results: list[Result], arguments: argparse.Namespace, pace: float | None = None) -> str:
    of = grouped(results, lambda result: result.arm)
    base = arguments.arms[0]
    baseline = values(of[base], "fd-classifier")
    arms_text = " ".join(f'"{arm}"' if " " in arm else arm for arm in arguments.arms)
    first = f" --seeds-of-first {arguments.seeds_of_first}" if arguments.seeds_of_first else ""
    lines = [
        "# Quality compared with the plain script",
        "",
        f"`python -m benchmarks.quality {arms_text} --seeds {arguments.seeds}{first} --epochs {arguments.epochs}`, "
        f"with --data-dir, --work and --out, at commit {', '.join(sorted({result.commit for result in results}))}. "
        f"{describe_machine()}",
        "",
        f"MNIST, {SAMPLES:,} samples against all 10,000 test images; fd-classifier is the mean of {CLASSIFIERS} "
        f"classifiers of seeds 0 to {CLASSIFIERS - 1}. Medians over the seeds, lowest and highest in brackets. Failed: "
        "not finite, a class below 1 %, precision below 0.1, or fd-classifier above three times the median of "
        f"{base}. Ratio: of the medians of fd-classifier, to {base}, with its 95 % interval (bootstrap); p: "
        "Mann-Whitney, two-sided. Seconds are of training only, with the given number of threads.",
    ]
    if pace is not None:
        lines += [
            "",
            f"The plain script takes {pace:.1f} s per epoch on this machine with {threads_per_job(1)} threads, so "
            f"about {pace * arguments.epochs:.0f} s for {arguments.epochs}.",
        ]
    lines += [
        "",
        "| arm | " + " | ".join(COLUMNS) + " | failed | ratio | p | seconds | threads | kimg |",
        "| --- |" + " --- |" * (len(COLUMNS) + 6),
    ]
    for arm in of:
        cells = [spread(values(of[arm], name)) for name in COLUMNS]
        failed = sum(result.failed(median(baseline)) for result in of[arm])
        own = values(of[arm], "fd-classifier")
        against = (
            ["", ""] if arm in (base, REAL) else [interval(own, baseline), f"{mannwhitneyu(own, baseline).pvalue:.2g}"]
        )
        lines.append(f"| {arm} | {' | '.join([*cells, f'{failed} of {len(of[arm])}', *against, *cost(of[arm])])} |")
    lines += ["", "All results:", "", "| arm | seed | " + " | ".join(COLUMNS) + " | rarest class | seconds |"]
    lines.append("| --- | --- |" + " --- |" * (len(COLUMNS) + 2))
    for result in results:
        cells = [f"{result.numbers.get(name, math.nan):.4g}" for name in COLUMNS]
        rarest = f"{result.numbers.get('class-kl-classifier.rarest_share', math.nan):.1%}"
        seconds = f"{result.seconds:.0f}" if result.seconds else ""
        lines.append(f"| {result.arm} | {result.seed} | {' | '.join([*cells, rarest, seconds])} |")
    return "\n".join(lines) + "\n"


def cost(results: list[Result]) -> list[str]:
    """Return the cells with seconds, threads and kimg of an arm."""
    if results[0].arm == REAL:
        return ["", "", ""]
    seconds, images = (median(getattr(result, key) for result in results) for key in ("seconds", "images"))
    threads = sorted({result.threads for result in results})
    return [f"{seconds:.0f}", " or ".join(map(str, threads)), f"{images / 1000:,.0f}"]


def values(results: list[Result], name: str) -> list[float]:
    """Return this metric of the results that are finite."""
    return [result.numbers[name] for result in results if result.finite] or [math.nan]


def spread(numbers: list[float]) -> str:
    return f"{median(numbers):.4g} ({min(numbers):.4g} to {max(numbers):.4g})"


def interval(numbers: list[float], others: list[float]) -> str:
    """Return the ratio of the medians with its 95 % bootstrap interval."""
    generator = np.random.default_rng(0)
    numerators, denominators = (
        np.median(generator.choice(each, (10_000, len(each))), axis=1) for each in (numbers, others)
    )
    low, high = np.quantile(numerators / denominators, (0.025, 0.975))
    return f"{median(numbers) / median(others):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
