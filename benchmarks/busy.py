"""Training on a busy machine: how much slower it is, and how much more CPU time it takes, than on an idle one.

    python -m benchmarks.busy --data-dir DATA --out benchmarks/busy

First the whole default run, `gancore train`, on the idle machine and then together with busy processes: endless loops
in Python, two for each core. Then the time of a step of larger networks, with one thread, with a thread for each core,
with as many that sleep while they wait (OMP_WAIT_POLICY=PASSIVE), and with the number that gancore chooses. Run it on
an otherwise idle machine; it takes about eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks.machine import ROOT, commit, describe_machine, write_report
from gancore import Run
from gancore.utils.cores import usable_cores

DEFAULT = "digits"
"""The recipe of `gancore train` without arguments."""
RECIPES = ("digits", "vanilla", "mnist")
WHOLE = "gancore train"
LOOP = "for _ in range(100_000_000): pass"
"""A program of one thread that waits for nothing: how much slower the load makes any program."""
WARM_UP = 5
CHOSEN = "chosen"
ARMS = {
    "one thread": ("1", {}),
    "a thread per core": (str(usable_cores()), {}),
    "a sleeping thread per core": (str(usable_cores()), {"OMP_WAIT_POLICY": "PASSIVE"}),
    CHOSEN: ("auto", {}),
}
"""Values of training.threads, and further variables of the environment."""
LIMITS = (4.0, 1.6)
"""How many times its idle time, and its idle CPU time, the default run may take on the busy machine."""


@dataclass(frozen=True)
class Measured:
    """Seconds, and CPU seconds of all threads, of a whole run or of a step, on an idle or a busy machine."""

    recipe: str
    arm: str
    busy: bool
    seconds: float
    cpu_seconds: float
    threads: int


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.child:
        print(json.dumps(steps(options.child, options.threads, options.data_dir, options.seconds)))
        return
    rows: list[Measured] = []
    for busy in (False, True):
        with load(options.processes if busy else 0):
            for _ in range(options.rounds):
                rows += [loop(busy=busy), whole_run(options.data_dir, busy=busy)]
            for recipe in options.recipes:
                for arm in ARMS:
                    rows += [step_of(recipe, arm, options, busy=busy) for _ in range(options.rounds)]
    write_report(options.out, report(rows, options), rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"[default: {' '.join(RECIPES)}]")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--out", type=Path, default=Path("busy"), help="files of the report, without suffix")
    parser.add_argument("--processes", type=int, default=2 * usable_cores(), help="number of busy processes")
    parser.add_argument("--rounds", type=int, default=1, help="runs of which the median is shown")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for which steps are timed")
    parser.add_argument("--child", metavar="RECIPE", help=argparse.SUPPRESS)
    parser.add_argument("--threads", default="auto", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.recipes = options.recipes or list(RECIPES)
    return options


@contextmanager
def load(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yield busy processes, which end with the block."""
    with ExitStack() as stack:
        processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        for process in processes:
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield processes


def whole_run(data_dir: Path, *, busy: bool, more: Sequence[str] = ()) -> Measured:
    """Train the default run by the command line, in a process of its own."""
    print(f"gancore train{', busy' * busy}", flush=True)
    with TemporaryDirectory(prefix="gancore-busy-") as folder:
        out = Path(folder, "run")
        words = ["train", "--device", "cpu", "-q", "--data-dir", str(data_dir), "--out", str(out), *more]
        seconds, cpu_seconds = timed(lambda: call("gancore_cli", *words))
        threads = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["threads"]
    return Measured(DEFAULT, WHOLE, busy, seconds, cpu_seconds, threads)


def loop(*, busy: bool) -> Measured:
    """Run the loop in a process of its own."""
    print(f"a loop{', busy' * busy}", flush=True)
    return Measured("", LOOP, busy, *timed(lambda: subprocess.run([sys.executable, "-c", LOOP], check=True)), 1)


def timed(start: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a process that the function starts and waits for."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    start()
    seconds, after = perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def step_of(recipe: str, arm: str, options: argparse.Namespace, *, busy: bool) -> Measured:
    """Time the steps of a recipe with the threads of an arm, in a process of its own."""
    print(f"{recipe}, {arm}{', busy' * busy}", flush=True)
    threads, environment = ARMS[arm]
    places = ["--data-dir", str(options.data_dir), "--seconds", str(options.seconds)]
    found = call("benchmarks.busy", *places, "--child", recipe, "--threads", threads, environment=environment)
    return Measured(recipe, arm, busy, **json.loads(found.splitlines()[-1]))


def call(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what `python -m module` prints, where the environment does not limit its threads."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_"))}
    path = os.pathsep.join([str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=inherited | {"PYTHONPATH": path} | dict(environment or {}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def steps(recipe: str, threads: str, data_dir: Path, seconds: float) -> dict[str, float]:
    """Train for some time, and return the seconds and the CPU seconds of a step, and the number of threads."""
    number = threads if threads == "auto" else int(threads)
    with TemporaryDirectory(prefix="gancore-busy-") as folder:
        run = Run(recipe, set={"training.threads": number}, data_dir=data_dir, device="cpu", out=Path(folder, "run"))
        with closing(run.train()) as records:
            for _ in range(WARM_UP):
                next(records)
            begun, cpu, count = perf_counter(), process_time(), 0
            while perf_counter() - begun < seconds or not count:
                next(records)
                count += 1
            wall, cpu = perf_counter() - begun, process_time() - cpu
    assert run.gan is not None  # noqa: S101  # for mypy: it has trained
    return {"seconds": wall / count, "cpu_seconds": cpu / count, "threads": run.gan.choice.threads or 0}


def report(rows: Sequence[Measured], options: argparse.Namespace) -> str:
    idle, busy = (median_of(rows, DEFAULT, WHOLE, busy=busy) for busy in (False, True))
    plain = [median_of(rows, "", LOOP, busy=busy).seconds for busy in (False, True)]
    slower, dearer = busy.seconds / idle.seconds, busy.cpu_seconds / idle.cpu_seconds
    lines = [
        "# Training on a busy machine",
        "",
        f"`python -m benchmarks.busy {' '.join(options.recipes)} --processes {options.processes} --rounds "
        f"{options.rounds} --seconds {options.seconds:g}`, with --data-dir and --out, at commit {commit()}. "
        f"{describe_machine()}",
        "",
        f"The machine is idle, or has {options.processes} other processes that are always busy. Medians of "
        f"{options.rounds} rounds. The CPU time is that of all threads of the process.",
        "",
        "The whole default run, `gancore train`. A loop of one thread that waits for nothing, "
        f"`{LOOP}`, takes {plain[1] / plain[0]:.2f} times its idle time on the busy machine.",
        "",
        "| | idle | busy | busy / idle | limit |",
        "| --- | --- | --- | --- | --- |",
        f"| time | {idle.seconds:.1f} s | {busy.seconds:.1f} s | {slower:.2f} | {LIMITS[0]:g} |",
        f"| CPU time | {idle.cpu_seconds:.1f} s | {busy.cpu_seconds:.1f} s | {dearer:.2f} | {LIMITS[1]:g} |",
        "",
        f"A step, while a run trains for {options.seconds:g} s. A run that chooses its threads has timed a few steps "
        "before, on the idle or on the busy machine. Recipe digits sets one thread, which is replaced here.",
        "",
        "| recipe | threads | idle, ms | CPU, ms | busy, ms | CPU, ms | busy / idle |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for recipe in options.recipes:
        for arm in ARMS:
            idle, busy = (median_of(rows, recipe, arm, busy=busy) for busy in (False, True))
            what = f"{arm}: {idle.threads} idle, {busy.threads} busy" if arm == CHOSEN else f"{arm}: {idle.threads}"
            times = (idle.seconds, idle.cpu_seconds, busy.seconds, busy.cpu_seconds)
            cells = " | ".join(f"{1000 * seconds:.1f}" for seconds in times)
            lines.append(f"| {recipe} | {what} | {cells} | {busy.seconds / idle.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def median_of(rows: Sequence[Measured], recipe: str, arm: str, *, busy: bool) -> Measured:
    found = [row for row in rows if (row.recipe, row.arm, row.busy) == (recipe, arm, busy)]
    seconds, cpu = (median(getattr(row, name) for row in found) for name in ("seconds", "cpu_seconds"))
    return Measured(recipe, arm, busy, seconds, cpu, found[-1].threads)


if __name__ == "__main__":
    main()
