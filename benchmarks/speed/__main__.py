"""Speed of a training step, compared with other ways to make the same step.

    python -m benchmarks.speed --data-dir DATA --work WORK --out benchmarks/speed
    python -m benchmarks.speed --device cuda --data-dir DATA --work WORK --out speed-cuda

All arms train the networks of a recipe on its data, taking turns in one process: gancore, the plain script, other
frameworks where they are installed (the extra `benchmarks`), and the fastest loop that we can write by hand. The matrix
products of a step, without anything else, are a lower bound. More sections measure a step of tiny networks, the
operators of a step, the time to
the first step, the peak of memory, the time per image by size, and streamed data. On a GPU the program compares gancore
in each precision, and as a CUDA graph, with the plain script, and leaves out the other sections. OUT.md is the report,
OUT.json has every round, OUT.png a picture. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.machine import write_report
from benchmarks.speed import byhand, comparisons, growth, memory, operators, startup, streams
from benchmarks.speed.report import Row, draw, page
from benchmarks.speed.timing import interleave

SECTIONS = (
    *comparisons.FEWER_STEPS,
    growth.FIXED,
    *(part.SECTION for part in (operators, startup, memory, growth, streams)),
)
ARMS = list(
    dict.fromkeys(
        arm
        for device in ("cpu", "cuda")
        for recipe in comparisons.FEWER_STEPS
        for arm in comparisons.arms(recipe, Path(), Path(), device)
    )
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    rows = list(measure(options))
    write_report(options.out, page(rows, command(options), options.threads, options.device), rows)
    try:
        draw(rows, options.out.with_suffix(".png"))
    except ImportError as error:
        print(f"no picture: {error}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="arms to compare  [default: all]")
    parser.add_argument("--rounds", type=int, default=16, help="rounds of a comparison; other sections take a fourth")
    parser.add_argument("--steps", type=int, default=100, help="steps of an arm per round; slow recipes take fewer")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="[default: one per core]")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md, OUT.json and OUT.png are written")
    return parser.parse_args(arguments)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Measure the chosen sections."""
    folder, work, rounds, steps = arguments.data_dir, arguments.work, arguments.rounds, arguments.steps
    fewer_rounds = max(1, rounds // 4)
    for recipe, factor in comparisons.FEWER_STEPS.items():
        if recipe in arguments.sections:
            found = comparisons.arms(recipe, folder, work, arguments.device)
            arms = {name: start for name, start in found.items() if name in arguments.arms}
            each = max(1, steps // factor)
            yield from interleave(recipe, arms, rounds=rounds, steps=each, batch=byhand.PLANS[recipe].batch)
    if arguments.device != "cpu":
        return
    if growth.FIXED in arguments.sections:
        yield from growth.measure_fixed(rounds, steps)
    if operators.SECTION in arguments.sections:
        yield from operators.measure(arguments.arms, folder, work, steps)
    if startup.SECTION in arguments.sections:
        yield from startup.measure(arguments.arms, folder, work, fewer_rounds)
    if memory.SECTION in arguments.sections:
        names = [name for name in comparisons.arms("vanilla", folder, work) if name in arguments.arms]
        yield from memory.measure(names, folder, work, steps, arguments.threads)
    if growth.SECTION in arguments.sections:
        yield from growth.measure(fewer_rounds, steps)
    if streams.SECTION in arguments.sections:
        yield from streams.measure(fewer_rounds, steps)


def command(arguments: argparse.Namespace) -> str:
    """Return the command that repeats the measurement, without paths."""
    parts = [f"--rounds {arguments.rounds} --steps {arguments.steps} --threads {arguments.threads}"]
    if arguments.device != "cpu":
        parts.append(f"--device {arguments.device}")
    if tuple(arguments.sections) != SECTIONS:
        parts.append(f"--sections {' '.join(arguments.sections)}")
    if arguments.arms != ARMS:
        parts.append("--arms " + " ".join(f'"{arm}"' for arm in arguments.arms))
    return " ".join(["python -m benchmarks.speed", *parts])


if __name__ == "__main__":
    main()
