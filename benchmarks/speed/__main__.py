"""How fast a step is, beside other ways to make the same step, on the CPU.

    python -m benchmarks.speed --data-dir DATA --work WORK --out benchmarks/speed

The networks, batches and data of a recipe are trained in turns by all arms of its race, in one process: by gancore, by
the plain script, by other frameworks where they are installed (the extra `benchmarks`), and by the best loop that we
know how to write by hand; beside them stand the matrix products of a step alone. Then come the operators that a step is
made of, the time to the first step, the peak of memory, how the time of an image grows, and data that are streamed.
OUT.md is the page, OUT.json every round, OUT.png a picture. It wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.machine import keep
from benchmarks.speed import byhand, growth, memory, operators, races, startup, streams
from benchmarks.speed.report import Row, draw, page
from benchmarks.speed.timing import in_turns

SECTIONS = (*races.SHARES, operators.SECTION, startup.SECTION, memory.SECTION, growth.SECTION, streams.SECTION)
ARMS = list(dict.fromkeys(arm for recipe in races.SHARES for arm in races.arms(recipe, Path(), Path())))


def main(words: Sequence[str] | None = None) -> None:
    arguments = parsed(words)
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = list(measured(arguments))
    keep(arguments.out, page(rows, command(arguments), arguments.threads), rows)
    try:
        draw(rows, arguments.out.with_suffix(".png"))
    except ImportError as error:
        print(f"no picture: {error}")


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="of races, operators, start and memory")
    parser.add_argument("--rounds", type=int, default=16, help="of a race; other sections take a fourth of them")
    parser.add_argument("--steps", type=int, default=100, help="of an arm in a round; slow recipes take fewer")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="[default: one for each core]")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md, OUT.json and OUT.png are written")
    return parser.parse_args(words)


def measured(arguments: argparse.Namespace) -> Iterator[Row]:
    """All sections that were asked for."""
    folder, work, rounds, steps = arguments.data_dir, arguments.work, arguments.rounds, arguments.steps
    few = max(1, rounds // 4)
    for recipe, share in races.SHARES.items():
        if recipe in arguments.sections:
            arms = {name: begin for name, begin in races.arms(recipe, folder, work).items() if name in arguments.arms}
            each = max(1, steps // share)
            yield from in_turns(recipe, arms, rounds=rounds, steps=each, batch=byhand.PLANS[recipe].batch)
    if operators.SECTION in arguments.sections:
        yield from operators.measured(arguments.arms, folder, work, steps)
    if startup.SECTION in arguments.sections:
        yield from startup.measured(arguments.arms, folder, work, few)
    if memory.SECTION in arguments.sections:
        names = [name for name in races.arms("vanilla", folder, work) if name in arguments.arms]
        yield from memory.measured(names, folder, work, steps, arguments.threads)
    if growth.SECTION in arguments.sections:
        yield from growth.measured(few, steps)
    if streams.SECTION in arguments.sections:
        yield from streams.measured(few, steps)


def command(arguments: argparse.Namespace) -> str:
    """What would measure the same again, without the places of files."""
    said = [f"--rounds {arguments.rounds} --steps {arguments.steps} --threads {arguments.threads}"]
    if tuple(arguments.sections) != SECTIONS:
        said.append(f"--sections {' '.join(arguments.sections)}")
    if arguments.arms != ARMS:
        said.append("--arms " + " ".join(f'"{arm}"' for arm in arguments.arms))
    return " ".join(["python -m benchmarks.speed", *said])


if __name__ == "__main__":
    main()
