"""A speedrun: minutes of training until fd-classifier of MNIST is 1.0, the median of ten seeds.

    python -m benchmarks.speedrun benchmarks/speedrun-mnist.toml --data-dir DATA --work WORK --out benchmarks/speedrun

CONFIG is a recipe or a TOML file whose duration is in kimg. After every 10 kimg, 10,000 samples of the averaged weights
are compared with the 10,000 test images, and the run ends at the first distance of at most 1.0: the mean over three
classifiers, as in benchmarks/quality.md. The time is that of the training steps until then, on all cores: without the
start of Python, reading the data, the trial steps that choose threads and precision, and evaluations. Runs are trained
one after the other, so that none slows down another. A run that does not get there counts as infinite.

Finished runs in WORK are not repeated. OUT.md is a table of all entries, to which this one is added, and OUT.json has
their runs. Anybody may add an entry.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median
from time import perf_counter

import torch
from torch import Tensor

from benchmarks.machine import commit, describe_machine, grouped, recorded, write_report
from gancore import GAN, Catalog, ConfigLayer, EvaluationPaths, Evaluator, ReferenceImages, SampleOrigin, resolve, train
from gancore.config.metric_names import find_metric
from gancore.config.run import RunConfig, read_layers
from gancore.evaluation.sources import reference_of
from gancore.sampling.draw import draw

SAMPLES = 10_000
CLASSIFIERS = 3
_METRIC = "{name = 'fd', extractor = {name = 'classifier', seed = %d}}"
TARGET = 1.0
EVERY_KIMG = 10


@dataclass(frozen=True)
class Run:
    """One run of an entry: seconds of training and kimg until the target, None if it was not reached."""

    entry: str
    seed: int
    seconds: float | None
    kimg: float | None
    distances: list[float]
    """fd-classifier after every 10 kimg."""
    commit: str
    machine: str


def main() -> None:
    arguments = parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    name = Path(arguments.config).stem
    evaluator = cache(partial(open_evaluator, arguments))  # only where a run is missing
    runs = [
        recorded(arguments.work / f"{name}-{seed}.json", Run, partial(train_seed, arguments, seed, evaluator))
        for seed in range(arguments.seeds)
    ]
    others = [run for run in committed(arguments.out) if run.entry != name]
    write_report(arguments.out, report([*others, *runs]), [*others, *runs])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("config", help="a recipe or TOML file for MNIST, with a duration in kimg")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--cache", type=Path, help="folder for the classifiers  [default: inside --work]")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished runs")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    parsed = parser.parse_args(arguments)
    config = configured(parsed.config, 0)
    if config.dataset.name != "mnist" or config.total.unit != "kimg":
        received = f"{config.dataset.name}, {config.duration}"
        parser.error(f"a config must train on mnist for a number of kimg; received {received}")
    return parsed


def configured(config: str, seed: int) -> RunConfig:
    catalog = Catalog.installed()
    return resolve([*read_layers(config, catalog), ConfigLayer("speedrun", {"seed": seed})], catalog)


def open_evaluator(arguments: argparse.Namespace) -> Evaluator:
    dataset = configured(arguments.config, 0).dataset
    paths = EvaluationPaths(arguments.data_dir, arguments.cache or arguments.work / "cache", torch.device("cpu"))
    training, reference = (ReferenceImages.of(each, arguments.data_dir) for each in (dataset, reference_of(dataset)[0]))
    origin = SampleOrigin(training, held_out=True)
    metrics = {f"fd-classifier-{seed}": find_metric(_METRIC % seed, Catalog.installed()) for seed in range(CLASSIFIERS)}
    evaluator = Evaluator(metrics, paths, reference, origin, count=SAMPLES)
    for preparation in evaluator.prepare():
        print(f"\r{preparation.what}: {preparation.done:.0%}", end="\n" if preparation.done == 1 else "", flush=True)
    return evaluator


def train_seed(arguments: argparse.Namespace, seed: int, evaluator: Callable[[], Evaluator]) -> Run:
    config, name = configured(arguments.config, seed), Path(arguments.config).stem
    done = race(config, name, arguments.data_dir, evaluator())
    print(done, flush=True)
    return done


def race(config: RunConfig, entry: str, data_dir: Path, evaluator: Evaluator) -> Run:
    """Train until the target is reached at a mark, or to the end of the run."""
    gan = GAN.assemble(config, data_dir, "cpu")
    distances = list[float]()
    for seconds, kimg in marks(gan):
        distances.append(fmean(result.measured.value for result in evaluator.evaluate(drawn(gan)).results))
        print(f"seed {config.seed}: {kimg:.0f} kimg, {seconds:.1f} s, fd-classifier {distances[-1]:.3f}", flush=True)
        if distances[-1] <= TARGET:
            return Run(entry, config.seed, seconds, kimg, distances, commit(), describe_machine())
    return Run(entry, config.seed, None, None, distances, commit(), describe_machine())


def marks(gan: GAN) -> Iterator[tuple[float, float]]:
    """Train; yield the seconds that the steps so far took, and kimg, after every 10 kimg."""
    steps, seconds, mark = train(gan), 0.0, EVERY_KIMG
    while True:
        started = perf_counter()
        step = next(steps, None)
        seconds += perf_counter() - started
        if step is None:
            return
        if step.images_seen >= 1000 * mark:
            mark += EVERY_KIMG
            yield seconds, step.images_seen / 1000


def drawn(gan: GAN) -> Tensor:
    """Return samples of the averaged weights, if there are such."""
    form, condition = gan.feed.format, gan.spec.condition
    generator, latent, seed = gan.sampler(), gan.options.latent, gan.options.seed
    return draw(
        generator, SAMPLES, latent=latent, seed=seed, device=gan.device, sample_format=form, condition=condition
    )


def committed(out: Path) -> list[Run]:
    """Return the runs of the entries that the table has."""
    file = out.with_suffix(".json")
    return [Run(**each) for each in json.loads(file.read_text(encoding="utf-8"))] if file.exists() else []


def report(runs: list[Run]) -> str:
    entries = grouped(runs, lambda run: run.entry)
    lines = [
        "# Speedrun on MNIST",
        "",
        f"Minutes of training until fd-classifier is at most {TARGET:g}, measured after every {EVERY_KIMG} kimg: "
        f"{SAMPLES:,} samples against all test images, the mean of three classifiers. Medians over the seeds, lowest "
        "and highest in brackets; a run that does not get there is infinite. The time of training steps only: without "
        "the start, the choice of threads and precision, and evaluations. An entry is a config; "
        "`python -m benchmarks.speedrun CONFIG`, with --data-dir, --work and --out benchmarks/speedrun, adds one.",
        "",
        "| entry | minutes | kimg | reached | commit | machine |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for entry, own in sorted(entries.items(), key=lambda item: median(minutes(item[1]))):
        reached = f"{sum(run.seconds is not None for run in own)} of {len(own)}"
        kimg = [math.inf if run.kimg is None else run.kimg for run in own]
        about = (", ".join(sorted({getattr(run, name) for run in own})) for name in ("commit", "machine"))
        lines.append(f"| {' | '.join([entry, spread(minutes(own)), spread(kimg), reached, *about])} |")
    return "\n".join(lines) + "\n"


def spread(numbers: list[float]) -> str:
    return f"{median(numbers):.4g} ({min(numbers):.4g} to {max(numbers):.4g})"


def minutes(runs: list[Run]) -> list[float]:
    return [math.inf if run.seconds is None else run.seconds / 60 for run in runs]


if __name__ == "__main__":
    main()
