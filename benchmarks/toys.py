"""Modes in the plane: recipes for the toy worlds, and the baseline in the same worlds, over many seeds.

    python -m benchmarks.toys --seeds 30 --jobs 2 --work WORK --out benchmarks/toys

An arm is a recipe and a world; each is trained to its end, and 2,500 samples are judged by the metric `modes`. Beside
them stand real points, and the published table of PacGAN, whose data these worlds repeat. `--jobs` trains so many at
once, each with its share of the cores. What is finished in WORK is not done again. OUT.md is the table, OUT.json every
run.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median, stdev
from time import perf_counter

import torch

from benchmarks.machine import commit, described, keep, threads
from gancore import GAN, Catalog, ConfigLayer, EvaluationPaths, Evaluator, ReferenceImages, resolve, train
from gancore.config.metric_names import find_metric
from gancore.config.run import read_dataset, read_layers
from gancore.errors import NumericsError
from gancore.sampling.load import draw

SAMPLES = 2500
MODES = {"ring": 8, "grid": 25}
ARMS = [("ring", "ring"), ("grid", "grid"), ("vanilla", "ring"), ("vanilla", "grid")]
"""Recipes and worlds; a recipe that is made for other data trains on as many images as the world's own."""
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
LOST = {"modes": 0.0, **dict.fromkeys(("high_quality", "reverse_kl", "rarest_share"), math.nan)}
"""What a run is worth whose numbers are not finite: of all but modes, tables show those of the others."""


@dataclass(frozen=True)
class RunConfig:
    """One run of an arm, and what its samples are worth."""

    arm: str
    world: str
    seed: int
    modes: float
    high_quality: float
    reverse_kl: float
    rarest_share: float
    seconds: float
    kimg: float
    commit: str

    @property
    def whole(self) -> bool:
        """Whether every mode is there."""
        return self.modes == MODES[self.world]

    def failed(self, usual: float) -> bool:
        """Not finite, a mode that has less than 1 % of the samples, or a reverse KL three times the usual one."""
        return not self.reverse_kl <= 3 * usual or self.rarest_share < 0.01


def main() -> None:
    arguments = parsed()
    arguments.work.mkdir(parents=True, exist_ok=True)
    runs = [point(world, seed) for world in MODES for seed in range(10)]
    spawned = get_context("spawn")  # threads that torch has started do not survive a fork
    with ProcessPoolExecutor(arguments.jobs, spawned, initializer=alone, initargs=(arguments.jobs,)) as pool:
        waiting = [
            pool.submit(trained, arguments.work, recipe, world, seed, arguments.kimg)
            for recipe, world in ARMS
            for seed in range(arguments.seeds if recipe == world else arguments.seeds_of_baseline)
        ]
        for each in waiting:
            runs.append(each.result())
            print(asdict(runs[-1]), flush=True)
    keep(arguments.out, report(runs, arguments), runs)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--seeds-of-baseline", type=int, default=10, help="seeds of vanilla, whose runs are long")
    parser.add_argument("--kimg", type=float, help="thousands of real images  [default: each world's recipe's]")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is finished")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    return parser.parse_args(words)


def alone(jobs: int) -> None:
    torch.set_num_threads(threads(jobs))


def trained(work: Path, recipe: str, world: str, seed: int, kimg: float | None) -> RunConfig:
    """Trains and judges, unless it is noted already."""
    arm = recipe if recipe == world else f"{recipe} on {world}"
    noted = work / f"{arm.replace(' ', '-')}-{kimg or 'whole'}-{seed}.json"
    if noted.exists():
        return RunConfig(**json.loads(noted.read_text()))
    catalog = Catalog.installed()
    own = resolve(read_layers(world, catalog), catalog)
    changes = {"seed": seed, "dataset": {"name": world}, "duration": f"{kimg:g} kimg" if kimg else own.duration}
    gan = GAN.assemble(
        resolve([*read_layers(recipe, catalog), ConfigLayer("benchmark", changes)], catalog), Path(), "cpu"
    )
    begun, numbers = perf_counter(), LOST
    with suppress(NumericsError):
        for _ in train(gan):
            pass
        samples = draw(
            gan.sampler().eval(), SAMPLES, latent=gan.options.latent, seed=seed, device=gan.device, num_classes=None
        )
        numbers = judged(world, samples)
    seconds = perf_counter() - begun
    run = RunConfig(arm, world, seed, **numbers, seconds=seconds, kimg=gan.progress.images_seen / 1000, commit=commit())
    noted.write_text(json.dumps(asdict(run)))
    return run


def judged(world: str, samples: torch.Tensor) -> dict[str, float]:
    catalog = Catalog.installed()
    place = EvaluationPaths(Path(), Path(), torch.device("cpu"))
    reference = ReferenceImages.of(read_dataset(world, catalog), Path())
    judge = {"modes": find_metric("modes", catalog)}
    evaluator = Evaluator(judge, place, reference, count=SAMPLES, seed=0)
    for _ in evaluator.prepare():
        pass
    numbers = evaluator.evaluate(samples).numbers()
    details = ("high_quality", "reverse_kl", "rarest_share")
    return {"modes": numbers["modes"]} | {key: numbers[f"modes.{key}"] for key in details}


def point(world: str, seed: int) -> RunConfig:
    """Real points, as many as are generated."""
    source = ReferenceImages.of(read_dataset(world, Catalog.installed()), Path())
    numbers = judged(world, source.draw(SAMPLES, seed, "benchmark"))
    return RunConfig(REAL, world, seed, **numbers, seconds=0, kimg=0, commit=commit())


def report(runs: list[RunConfig], arguments: argparse.Namespace) -> str:
    shorter = f" --kimg {arguments.kimg:g}" if arguments.kimg else ""
    lines = [
        "# Modes in the plane",
        "",
        f"`python -m benchmarks.toys --seeds {arguments.seeds} --seeds-of-baseline {arguments.seeds_of_baseline}"
        f"{shorter} --jobs {arguments.jobs}`, with --work and --out, at commit "
        f"{', '.join(sorted({run.commit for run in runs}))}. {described(arguments.jobs)}",
        "",
        f"{SAMPLES:,} samples; means over the seeds ± standard errors. All: runs that capture every mode. High "
        "quality: the share of samples within 3 standard deviations of a center; rarest: the smallest share of a mode, "
        "among these. Failed: not finite, a mode below 1 %, or a reverse KL above three times the median of the arm. "
        "Published: Lin et al. 2018 (arXiv:1712.04086), table 1, ten runs of 400,000 steps.",
    ]
    for world, modes in MODES.items():
        lines += [
            "",
            f"## {world}, {modes} modes",
            "",
            "| arm | all | failed | modes | high quality, % | reverse KL | median | highest | rarest, % | kimg |",
            "| --- |" + " --- |" * 9,
        ]
        for arm in dict.fromkeys(run.arm for run in runs if run.world == world):
            mine = [run for run in runs if run.world == world and run.arm == arm]
            distances = [run.reverse_kl for run in mine if math.isfinite(run.reverse_kl)] or [math.nan]
            usual = median(distances)
            cells = [
                f"{sum(run.whole for run in mine)} of {len(mine)}",
                f"{sum(run.failed(usual) for run in mine)}",
                mean(run.modes for run in mine),
                mean(100 * run.high_quality for run in mine),
                mean(run.reverse_kl for run in mine),
                f"{usual:.2g}",
                f"{max(distances):.2g}",
                mean(100 * run.rarest_share for run in mine),
                "" if arm == REAL else f"{mine[0].kimg:,.0f}",
            ]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
        for who, numbers in PUBLISHED[world].items():
            lines.append(f"| {who}, published |  |  | {' | '.join(numbers)} |  |  |  |  |")
    return "\n".join(lines) + "\n"


def mean(numbers: Iterable[float]) -> str:
    """With its standard error, of what is finite."""
    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        return "none"
    if len(finite) == 1:
        return f"{finite[0]:.3g}"
    return f"{fmean(finite):.3g} ± {stdev(finite) / math.sqrt(len(finite)):.1g}"


if __name__ == "__main__":
    main()
