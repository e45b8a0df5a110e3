"""Mode coverage on 2D toy data: the recipes made for it, and the baseline on the same data, over many seeds.

    python -m benchmarks.toys --seeds 30 --jobs 2 --work WORK --out benchmarks/toys

An arm is a recipe and a dataset. Each run is trained to its end, and the metric `modes` measures 2,500 samples. The
table also has real points and published results of PacGAN on the same data. `--particlegan` adds ParticleGAN, of which
each run takes as many seconds as that of the recipe with the same seed; see benchmarks/particle.py. `--jobs` trains
several runs in parallel, each with its share of the cores. Finished runs in WORK are not repeated. OUT.md is the table,
OUT.json has all runs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median, stdev
from time import perf_counter

import torch

from benchmarks.machine import commit, describe_machine, grouped, recorded, threads_per_job, write_report
from gancore import GAN, Catalog, ConfigLayer, EvaluationPaths, Evaluator, ReferenceImages, resolve, train
from gancore.config.metric_names import find_metric
from gancore.config.run import read_dataset, read_layers
from gancore.errors import NumericsError
from gancore.sampling.draw import draw

SAMPLES = 2500
MODES = {"ring": 8, "grid": 25}
ARMS = [("ring", "ring"), ("grid", "grid"), ("vanilla", "ring"), ("vanilla", "grid")]
"""Recipe and dataset of each arm; `vanilla` trains on as many images as the recipe made for the dataset."""
REAL = "real points"
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
HEADINGS = (
    *("arm", "all", "failed", "modes", "high quality, %", "reverse KL"),
    *("median", "highest", "rarest, %", "kimg", "seconds"),
)
NOT_FINITE = {"modes": 0.0, **dict.fromkeys(("high_quality", "reverse_kl", "rarest_share"), math.nan)}
"""Results of a run that diverged; means leave out its NaN."""


@dataclass(frozen=True)
class Result:
    """One run of an arm, and the metrics of its samples."""

    arm: str
    dataset: str
    seed: int
    modes: float
    high_quality: float
    reverse_kl: float
    rarest_share: float
    seconds: float
    kimg: float
    commit: str

    @property
    def complete(self) -> bool:
        """Whether its samples have every mode."""
        return self.modes == MODES[self.dataset]

    def failed(self, baseline: float) -> bool:
        """Return whether it diverged, has less than 1 % of a mode, or has thrice the baseline's reverse KL."""
        return not self.reverse_kl <= 3 * baseline or self.rarest_share < 0.01


def main() -> None:
    arguments = parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    runs = [real_points(dataset, seed) for dataset in MODES for seed in range(10)]
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(arguments.jobs, spawn, initializer=limit_threads, initargs=(arguments.jobs,)) as pool:
        futures = [
            pool.submit(train_and_measure, arguments.work, recipe, dataset, seed, arguments.kimg)
            for recipe, dataset in ARMS
            for seed in range(arguments.seeds if recipe == dataset else arguments.seeds_of_baseline)
        ]
        for future in futures:
            runs.append(future.result())
            print(asdict(runs[-1]), flush=True)
        seconds = {(run.dataset, run.seed): run.seconds for run in runs if run.arm == run.dataset}
        futures = [
            pool.submit(particlegan, arguments.work, recipe, dataset, seed, seconds[dataset, seed])
            for dataset in MODES
            for recipe in PARTICLE_RECIPES
            for seed in range(min(arguments.particlegan, arguments.seeds))
        ]
        for future in futures:
            runs.append(future.result())
            print(asdict(runs[-1]), flush=True)
    write_report(arguments.out, report(runs, arguments), runs)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--seeds-of-baseline", type=int, default=10, help="seeds of vanilla, whose runs take long")
    parser.add_argument("--particlegan", type=int, default=0, help="seeds of ParticleGAN, which must be installed")
    parser.add_argument("--kimg", type=float, help="thousands of images  [default: as the recipe of the dataset]")
    parser.add_argument("--jobs", type=int, default=1, help="runs to train in parallel")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished runs")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    return parser.parse_args(arguments)


def limit_threads(jobs: int) -> None:
    torch.set_num_threads(threads_per_job(jobs))


def train_and_measure(work: Path, recipe: str, dataset: str, seed: int, kimg: float | None) -> Result:
    """Train and measure, unless WORK has the record of this run."""
    arm = recipe if recipe == dataset else f"{recipe} on {dataset}"
    record = work / f"{arm.replace(' ', '-')}-{kimg or 'full'}-{seed}.json"
    return recorded(record, Result, partial(train_arm, arm, recipe, dataset, seed, kimg))


def train_arm(arm: str, recipe: str, dataset: str, seed: int, kimg: float | None) -> Result:
    catalog = Catalog.installed()
    tuned = resolve(read_layers(dataset, catalog), catalog)
    changes = {
        "seed": seed,
        "dataset": {"name": dataset},
        "duration": f"{kimg:g} kimg" if kimg else tuned.duration,
    }
    gan = GAN.assemble(
        resolve([*read_layers(recipe, catalog), ConfigLayer("benchmark", changes)], catalog), Path(), "cpu"
    )
    start, numbers = perf_counter(), NOT_FINITE
    with suppress(NumericsError):
        for _ in train(gan):
            pass
        samples = draw(
            gan.sampler().eval(),
            SAMPLES,
            latent=gan.options.latent,
            seed=seed,
            device=gan.device,
            sample_format=gan.feed.format,
        )
        numbers = measure(dataset, samples)
    seconds = perf_counter() - start
    return Result(arm, dataset, seed, **numbers, seconds=seconds, kimg=gan.progress.images_seen / 1000, commit=commit())


def particlegan(work: Path, recipe: str, dataset: str, seed: int, seconds: float) -> Result:
    """Train ParticleGAN for these seconds and measure it, unless WORK has the record of this run."""
    record = work / f"particlegan-{recipe}-on-{dataset}-{seconds:.0f}-{seed}.json"
    return recorded(record, Result, partial(train_particlegan, recipe, dataset, seed, seconds))


def train_particlegan(recipe: str, dataset: str, seed: int, seconds: float) -> Result:
    from benchmarks.particle import train_for  # the package may be missing

    source = ReferenceImages.of(read_dataset(dataset, Catalog.installed()), Path())
    points = source.draw(len(source), 0, "all")
    std = source.mixture.std if source.mixture else 0.0
    start = perf_counter()
    samples, seen = train_for(seconds, points, recipe, std, seed, SAMPLES)
    took, finite = perf_counter() - start, bool(samples.isfinite().all())
    numbers = measure(dataset, samples) if finite else NOT_FINITE
    return Result(f"ParticleGAN {recipe}", dataset, seed, **numbers, seconds=took, kimg=seen / 1000, commit=commit())


def measure(dataset: str, samples: torch.Tensor) -> dict[str, float]:
    catalog = Catalog.installed()
    paths = EvaluationPaths(Path(), Path(), torch.device("cpu"))
    reference = ReferenceImages.of(read_dataset(dataset, catalog), Path())
    metrics = {"modes": find_metric("modes", catalog)}
    evaluator = Evaluator(metrics, paths, reference, count=SAMPLES, seed=0)
    for _ in evaluator.prepare():
        pass
    numbers = evaluator.evaluate(samples).numbers()
    details = ("high_quality", "reverse_kl", "rarest_share")
    return {"modes": numbers["modes"]} | {key: numbers[f"modes.{key}"] for key in details}


def real_points(dataset: str, seed: int) -> Result:
    """Return the result of as many real points."""
    source = ReferenceImages.of(read_dataset(dataset, Catalog.installed()), Path())
    numbers = measure(dataset, source.draw(SAMPLES, seed, "benchmark"))
    return Result(REAL, dataset, seed, **numbers, seconds=0, kimg=0, commit=commit())


def report(runs: list[Result], arguments: argparse.Namespace) -> str:
    more = f" --kimg {arguments.kimg:g}" if arguments.kimg else ""
    more += f" --particlegan {arguments.particlegan}" if arguments.particlegan else ""
    lines = [
        "# Mode coverage on 2D toy data",
        "",
        f"`python -m benchmarks.toys --seeds {arguments.seeds} --seeds-of-baseline {arguments.seeds_of_baseline}"
        f"{more} --jobs {arguments.jobs}`, with --work and --out, at commit "
        f"{', '.join(sorted({run.commit for run in runs}))}. {describe_machine(arguments.jobs)}",
        "",
        f"{SAMPLES:,} samples; means over the seeds ± standard errors. All: runs that have every mode. High "
        "quality: the share of samples within 3 standard deviations of a center; rarest: the smallest share of a mode, "
        "among these. Failed: not finite, a mode below 1 %, or a reverse KL above three times the median of the arm. "
        "Published: Lin et al. 2018 (arXiv:1712.04086), table 1, ten runs of 400,000 steps. kimg and seconds: medians.",
    ]
    for dataset, modes in MODES.items():
        lines += [
            "",
            f"## {dataset}, {modes} modes",
            "",
            f"| {' | '.join(HEADINGS)} |",
            "| --- |" + " --- |" * (len(HEADINGS) - 1),
        ]
        for arm, own in grouped([run for run in runs if run.dataset == dataset], lambda run: run.arm).items():
            distances = [run.reverse_kl for run in own if math.isfinite(run.reverse_kl)] or [math.nan]
            baseline, seconds = median(distances), median(run.seconds for run in own)
            cells = [
                f"{sum(run.complete for run in own)} of {len(own)}",
                f"{sum(run.failed(baseline) for run in own)}",
                mean(run.modes for run in own),
                mean(100 * run.high_quality for run in own),
                mean(run.reverse_kl for run in own),
                f"{baseline:.2g}",
                f"{max(distances):.2g}",
                mean(100 * run.rarest_share for run in own),
                *(["", ""] if arm == REAL else [f"{median(run.kimg for run in own):,.0f}", f"{seconds:.0f}"]),
            ]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
        for method, numbers in PUBLISHED[dataset].items():
            lines.append(f"| {method}, published |  |  | {' | '.join(numbers)} |  |  |  | {PUBLISHED_KIMG:,} |  |")
    return "\n".join(lines) + "\n"


def mean(numbers: Iterable[float]) -> str:
    """Return the mean of the finite numbers with its standard error."""
    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        return "none"
    if len(finite) == 1:
        return f"{finite[0]:.3g}"
    return f"{fmean(finite):.3g} ± {stdev(finite) / math.sqrt(len(finite)):.1g}"


if __name__ == "__main__":
    main()
