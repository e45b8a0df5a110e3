"""What it costs to look at losses and gradients before every update.

    OMP_NUM_THREADS=1 python -m benchmarks.finite --data-dir DATA --pairs 300 --out benchmarks/finite.md

A run of each recipe is made twice, and their steps are taken in turns: one of the run that looks, one of the run that
does not, in an order that changes from pair to pair, so that whatever else the machine does meets both. The cost is the
median over all pairs of what the look added to a step. It is time of the processor, not of the clock: with one thread
that is the work itself, whoever else wants the cores. Both runs compute the same numbers, which is checked.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time

import torch
from torch import Tensor

from benchmarks.machine import commit, described
from gancore import GAN, Catalog, ConfigLayer, Step, resolve, train
from gancore.config.run import read_layers
from gancore.training.finite import FiniteCheck

BOUNDS = {"vanilla": 4.0, "mnist": 2.0, "dcgan": 2.0}
"""Per cent of a step that a look may cost."""


class Blind(FiniteCheck):
    """Looks at nothing."""

    def check_gradients(self, *_arguments: object) -> Tensor:
        return self.found

    def check_weights(self, *_arguments: object) -> None:
        pass


@dataclass(frozen=True)
class Cost:
    """Milliseconds of a step that does not look, and those that a look adds: the median, and a quarter to each side."""

    recipe: str
    pairs: int
    step: float
    added: float
    low: float
    high: float

    @property
    def share(self) -> float:
        return 100 * self.added / self.step


def main() -> None:
    arguments = parsed()
    costs = [measured(recipe, arguments.data_dir, arguments.pairs) for recipe in BOUNDS]
    text = report(costs, arguments.pairs)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=300, help="of steps, for each recipe")
    parser.add_argument("--out", type=Path, required=True, help="the table")
    return parser.parse_args()


def measured(recipe: str, data: Path, pairs: int) -> Cost:
    looking, blind = (begun(recipe, data, looks=looks) for looks in (True, False))
    for _ in range(5):
        timed(looking), timed(blind)
    without, added = [], []
    for number in range(pairs):
        if number % 2:
            (first, one), (second, other) = timed(looking), timed(blind)
        else:
            (second, other), (first, one) = timed(blind), timed(looking)
        without.append(second)
        added.append(first - second)
        if not torch.equal(one.generator_loss, other.generator_loss):
            raise SystemExit("the run that looks is another one")
    added.sort()
    return Cost(recipe, pairs, median(without), median(added), added[pairs // 4], added[3 * pairs // 4])


def begun(recipe: str, data: Path, *, looks: bool) -> Iterator[Step]:
    catalog = Catalog.installed()
    layers = [*read_layers(recipe, catalog), ConfigLayer("benchmark", {"duration": "100000 steps"})]
    gan = GAN.assemble(resolve(layers, catalog), data, "cpu")
    if not looks:
        gan.finite_check = Blind(gan.device, immediate=True)
    return train(gan)


def timed(steps: Iterator[Step]) -> tuple[float, Step]:
    begun = process_time()
    step = next(steps)
    return 1000 * (process_time() - begun), step


def report(costs: list[Cost], pairs: int) -> str:
    lines = [
        "# Looking for what is not finite",
        "",
        f"`python -m benchmarks.finite --pairs {pairs}`, with --data-dir and --out, at commit {commit()}, with "
        f"OMP_NUM_THREADS={torch.get_num_threads()}. {described()}",
        "",
        "What a look at the losses, penalties and gradients of both players adds to a step: the median over pairs of "
        "steps taken in turns, with the quarters to each side of it, in milliseconds of the processor.",
        "",
        "| recipe | pairs | step without, ms | a look adds, ms | quarters, ms | share | bound |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {cost.recipe} | {cost.pairs} | {cost.step:.2f} | {cost.added:.3f} | {cost.low:.3f} to {cost.high:.3f} | "
        f"{cost.share:.1f} % | {BOUNDS[cost.recipe]:g} % |"
        for cost in costs
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
