"""The collapse guard: false alarms in healthy runs, and how soon it detects a collapse.

    python -m benchmarks.guard digits ring grid vanilla --seeds 7 --data-dir DATA --work WORK --out benchmarks/guard.md

Every recipe is trained to its end with its own settings and several seeds, and then measured. A run is healthy if it
draws every class, or mode, with at least a fifth of its fair share. An alarm in a healthy run is false, unless its
generator had collapsed when the alarm was raised. The program also constructs collapsed samples: one repeated sample
of the toys and the digits, and one mode of the eight of the ring. Finished runs in WORK are not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import commit, describe_machine, grouped, run_module
from gancore import Catalog, ReferenceImages
from gancore.config.run import read_dataset
from gancore.evaluation.collapse import SAMPLE_COUNT, CollapseGuard
from gancore.utils.random import generator_for

TRIES = 30
METRIC = {"digits": "class-kl-classifier", "vanilla": "class-kl-classifier", "ring": "modes", "grid": "modes"}
FAIR_SHARE = {"digits": 1 / 10, "vanilla": 1 / 10, "ring": 1 / 8, "grid": 1 / 25}


@dataclass(frozen=True)
class Result:
    """One run: the diversities that its guard measured, the number of alarms, and whether it ended healthy."""

    recipe: str
    seed: int
    diversities: list[float]
    alarms: int
    healthy: bool


def main() -> None:
    arguments = parse()
    for folder in (arguments.work, arguments.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    jobs = [(recipe, seed) for recipe in arguments.recipes for seed in range(arguments.seeds)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(lambda job: train(arguments, *job), jobs))
    text = report(runs, collapses(arguments.data_dir), arguments)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("recipes", nargs="+", choices=METRIC)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=1, help="runs to train in parallel")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--out", type=Path, required=True, help="file of the table")
    return parser.parse_args()


def train(arguments: argparse.Namespace, recipe: str, seed: int) -> Result:
    folder: Path = arguments.work / f"{recipe}-{seed}"
    evaluation = folder.with_suffix(".json")
    where = ["--data-dir", arguments.data_dir, "--device", "cpu"]
    if not evaluation.exists():
        print(f"{recipe}, seed {seed}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted benchmark
        run_module("gancore_cli", "train", recipe, "--seed", seed, "--out", folder, "-q", *where, jobs=arguments.jobs)
        options = ["--metric", METRIC[recipe], "--json", "-q", *where]
        evaluation.write_text(run_module("gancore_cli", "evaluate", folder, *options, jobs=arguments.jobs))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    diversities = [line["diversity"] for line in lines if "diversity" in line]
    replay = CollapseGuard(torch.eye(2))  # the threshold does not depend on the data
    alarms = sum(replay.alarm(diversity) is not None for diversity in diversities)
    rarest = json.loads(evaluation.read_text())["metrics"][METRIC[recipe]]["details"]["rarest_share"]["value"]
    return Result(recipe, seed, diversities, alarms, rarest >= FAIR_SHARE[recipe] / 5)


def collapses(root: Path) -> list[tuple[str, int]]:
    """Return each kind of collapse with how many of `TRIES` were detected at the second check."""
    catalog = Catalog.installed()
    rows = []
    for name in ("ring", "grid", "digits"):
        source = ReferenceImages.of(read_dataset(name, catalog), root)
        values, labels = source.images.tensors  # type: ignore[attr-defined]  # these three are in memory
        rows.append((f"{name}: one sample", detections(values, partial(one_sample, values))))
        if name == "ring":
            rows.append(("ring: one mode of eight", detections(values, partial(one_mode, values, labels))))
    return rows


def one_sample(values: Tensor, generator: torch.Generator) -> Tensor:
    chosen = values[torch.randint(len(values), (1,), generator=generator)]
    return chosen.repeat(SAMPLE_COUNT, *[1] * (values.ndim - 1))


def one_mode(values: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    of_mode = (labels == int(torch.randint(8, (1,), generator=generator))).nonzero().flatten()
    return values[of_mode[torch.randint(len(of_mode), (SAMPLE_COUNT,), generator=generator)]]


def detections(values: Tensor, draw: Callable[[torch.Generator], Tensor]) -> int:
    detected = 0
    for seed in range(TRIES):
        generator = generator_for(seed, "collapse")
        guard = CollapseGuard(values[torch.randperm(len(values), generator=generator)[:SAMPLE_COUNT]])
        alarms = [guard.alarm(guard.diversity(draw(generator))) for _ in range(2)]
        detected += alarms[1] is not None
    return detected


def report(runs: list[Result], collapsed: list[tuple[str, int]], arguments: argparse.Namespace) -> str:
    lines = [
        "# The collapse guard",
        "",
        f"`python -m benchmarks.guard {' '.join(arguments.recipes)} --seeds {arguments.seeds} --jobs {arguments.jobs}`,"
        f" with --data-dir, --work and --out, at commit {commit()}. {describe_machine(arguments.jobs)}",
        "",
        "Complete runs of recipes. A run is healthy if at its end every class, or mode, has at least a fifth of its "
        "fair share. The guard measures the diversity every `evaluate.every_kimg`; it raises an alarm at the second "
        "value in a row below 0.2.",
        "",
        "| recipe | runs | healthy | checks per run | lowest diversity | runs with an alarm | diversity at the end |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for recipe, of in grouped(runs, lambda run: run.recipe).items():
        checks = ", ".join(str(count) for count in sorted({len(run.diversities) for run in of}))
        lowest, last = min(min(run.diversities) for run in of), sorted(run.diversities[-1] for run in of)
        lines.append(
            f"| {recipe} | {len(of)} | {sum(run.healthy for run in of)} | {checks} | {lowest:.3f} | "
            f"{sum(run.alarms > 0 for run in of)} | {last[0]:.2f} to {last[-1]:.2f} |"
        )
    lines += ["", "Constructed collapses, and how many of them were detected at the second check:", ""]
    lines += ["| collapse | tries | detected |", "| --- | --- | --- |"]
    lines += [f"| {what} | {TRIES} | {detected} |" for what, detected in collapsed]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
