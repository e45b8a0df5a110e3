"""The collapse guard: false alarms in healthy runs, and how soon it notices what has collapsed.

    python -m benchmarks.guard digits ring grid vanilla --seeds 7 --data-dir DATA --work WORK --out benchmarks/guard.md

Every recipe is trained to its end with its own settings and so many seeds, and then measured: a run is healthy if it
draws every class, or mode, with at least a fifth of its fair share. An alarm in a healthy run is false, unless its
generator did draw next to nothing when it was raised. Beside them stand collapses that are made by hand: of the toys
and the digits a generator that draws one thing, and of the ring one that draws one mode of eight. What is finished in
WORK is not trained again.
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

from benchmarks.machine import called, commit, described
from gancore import Catalog, ReferenceImages
from gancore.config.run import read_dataset
from gancore.evaluation.collapse import SAMPLE_COUNT, CollapseGuard
from gancore.utils.random import generator_for

TRIES = 30
JUDGE = {"digits": "class-kl-digits", "vanilla": "class-kl-digits", "ring": "modes", "grid": "modes"}
FAIR = {"digits": 1 / 10, "vanilla": 1 / 10, "ring": 1 / 8, "grid": 1 / 25}


@dataclass(frozen=True)
class RunConfig:
    """One run: the diversities that its guard saw, those below which it raises an alarm, and how it ended."""

    recipe: str
    seed: int
    diversities: list[float]
    alarms: int
    healthy: bool


def main() -> None:
    arguments = parsed()
    arguments.work.mkdir(parents=True, exist_ok=True)
    jobs = [(recipe, seed) for recipe in arguments.recipes for seed in range(arguments.seeds)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(lambda job: trained(arguments, *job), jobs))
    text = report(runs, collapses(arguments.data_dir), arguments)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("recipes", nargs="+", choices=JUDGE)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--out", type=Path, required=True, help="the table")
    return parser.parse_args()


def trained(arguments: argparse.Namespace, recipe: str, seed: int) -> RunConfig:
    folder: Path = arguments.work / f"{recipe}-{seed}"
    ended = folder.with_suffix(".json")
    where = ["--data-dir", arguments.data_dir, "--device", "cpu"]
    if not ended.exists():
        print(f"{recipe}, seed {seed}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted benchmark
        called("gancore_cli", "train", recipe, "--seed", seed, "--out", folder, "-q", *where, jobs=arguments.jobs)
        judge = ["--metric", JUDGE[recipe], "--json", "-q", *where]
        ended.write_text(called("gancore_cli", "evaluate", folder, *judge, jobs=arguments.jobs))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seen = [line["diversity"] for line in lines if "diversity" in line]
    replay = CollapseGuard(torch.eye(2))  # what raises an alarm does not depend on the data
    alarms = sum(replay.alarm(diversity) is not None for diversity in seen)
    rarest = json.loads(ended.read_text())["metrics"][JUDGE[recipe]]["details"]["rarest_share"]["value"]
    return RunConfig(recipe, seed, seen, alarms, rarest >= FAIR[recipe] / 5)


def collapses(root: Path) -> list[tuple[str, int]]:
    """What was made to collapse, and how often in `TRIES` two looks raised the alarm."""
    catalog = Catalog.installed()
    rows = []
    for name in ("ring", "grid", "digits"):
        source = ReferenceImages.of(read_dataset(name, catalog), root)
        values, labels = source.images.tensors  # type: ignore[attr-defined]  # these three lie in memory
        rows.append((f"{name}: one thing", caught(values, partial(one_thing, values))))
        if name == "ring":
            rows.append(("ring: one mode of eight", caught(values, partial(one_mode, values, labels))))
    return rows


def one_thing(values: Tensor, dice: torch.Generator) -> Tensor:
    chosen = values[torch.randint(len(values), (1,), generator=dice)]
    return chosen.repeat(SAMPLE_COUNT, *[1] * (values.ndim - 1))


def one_mode(values: Tensor, labels: Tensor, dice: torch.Generator) -> Tensor:
    there = (labels == int(torch.randint(8, (1,), generator=dice))).nonzero().flatten()
    return values[there[torch.randint(len(there), (SAMPLE_COUNT,), generator=dice)]]


def caught(values: Tensor, draw: Callable[[torch.Generator], Tensor]) -> int:
    found = 0
    for seed in range(TRIES):
        dice = generator_for(seed, "collapse")
        guard = CollapseGuard(values[torch.randperm(len(values), generator=dice)[:SAMPLE_COUNT]])
        alarms = [guard.alarm(guard.diversity(draw(dice))) for _ in range(2)]
        found += alarms[1] is not None
    return found


def report(runs: list[RunConfig], made: list[tuple[str, int]], arguments: argparse.Namespace) -> str:
    lines = [
        "# The collapse guard",
        "",
        f"`python -m benchmarks.guard {' '.join(arguments.recipes)} --seeds {arguments.seeds} --jobs {arguments.jobs}`,"
        f" with --data-dir, --work and --out, at commit {commit()}. {described(arguments.jobs)}",
        "",
        "Whole runs of recipes. A run is healthy if at its end every class, or mode, has at least a fifth of its fair "
        "share. Diversity is what the guard saw, every `evaluate.every_kimg`; it raises an alarm at the second value "
        "in a row below 0.2.",
        "",
        "| recipe | runs | healthy | looks in a run | lowest diversity | runs with an alarm | diversity at the end |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for recipe in dict.fromkeys(run.recipe for run in runs):
        of = [run for run in runs if run.recipe == recipe]
        looks = ", ".join(str(count) for count in sorted({len(run.diversities) for run in of}))
        lowest, last = min(min(run.diversities) for run in of), sorted(run.diversities[-1] for run in of)
        lines.append(
            f"| {recipe} | {len(of)} | {sum(run.healthy for run in of)} | {looks} | {lowest:.3f} | "
            f"{sum(run.alarms > 0 for run in of)} | {last[0]:.2f} to {last[-1]:.2f} |"
        )
    lines += ["", "Collapses made by hand, and how many of them were noticed at the second look:", ""]
    lines += ["| collapse | tries | noticed |", "| --- | --- | --- |"]
    lines += [f"| {what} | {TRIES} | {found} |" for what, found in made]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
