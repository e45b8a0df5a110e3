"""Train tiny networks for a million steps, as a run of many days does, and look for what grows.

    python -m benchmarks.long --steps 1000000

Runs the command `gancore train` with checkpoints, pictures, evaluations and a collapse guard as often as by default,
and watches its process from outside. Prints at each tenth of the run: memory, threads, open files, and the median time
of a step since the tenth before; and at the end the size of everything that it wrote, and the time to read the log.
Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import gancore
from gancore.checkpoint.log import read_log
from gancore.observers import LOG

BATCH_SIZE = 64
SETTINGS = {
    "batch_size": BATCH_SIZE,
    "latent.dim": 4,
    "generator.widths": [8],
    "discriminator.widths": [8],
    "regularizers.r1.interval": 16,
    "metrics": "{kid-random = {}}",
    "evaluate.samples": 64,
    "metrics.kid-random.subsets": 3,
    "checkpoint.best": '"kid-random"',
}
POLL_S = 0.5
TENTHS = 10


@dataclass(frozen=True)
class Taken:
    """What the process has at a step: memory in MB, threads, open files, and the median time of the steps before it."""

    step: int
    memory: float
    threads: int
    files: int
    milliseconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=1_000_000, help="number of steps")
    parser.add_argument("--out", type=Path, help="folder for the run; by default it is removed afterward")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="gancore-long-") as temporary:
        out = options.out or Path(temporary) / "run"
        output = Path(temporary) / "output"
        print("step | memory MB | threads | files | ms per step")
        for taken in watched(options.steps, out, output):
            numbers = f"{taken.memory:.1f} | {taken.threads} | {taken.files} | {taken.milliseconds:.2f}"
            print(f"{taken.step:,} | {numbers}", flush=True)
        for line in described(out, output):
            print(line)


def watched(steps: int, out: Path, output: Path) -> Iterator[Taken]:
    """Train, and yield what the process takes after each tenth of the steps."""
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "gancore_cli", "train", "digits", "--steps", str(steps), "--out", str(out)]
    with output.open("wb") as file, subprocess.Popen([*command, *settings], stdout=file, stderr=file) as process:
        tenth, seen = 1, 0
        while process.poll() is None:
            time.sleep(POLL_S)
            log = read_log(out / LOG)
            if log and log[-1]["step"] >= tenth * steps // TENTHS:
                try:
                    yield taken_by(process.pid, log[seen:])
                except (OSError, KeyError):  # it has just ended
                    break
                tenth, seen = int(log[-1]["step"]) * TENTHS // steps + 1, len(log)
    if process.returncode:
        raise SystemExit(output.read_text(encoding="utf-8")[-2000:])


def taken_by(process: int, lines: list[dict[str, float]]) -> Taken:
    """Return what a process takes now; `lines` are the newest of its log."""
    folder = Path("/proc") / str(process)
    text = (folder / "status").read_text(encoding="utf-8")
    status = dict(line.split(":", 1) for line in text.splitlines())
    memory = int(status["VmRSS"].split()[0]) / 1000
    times = [1000 * BATCH_SIZE / line["images_per_second"] for line in lines if "images_per_second" in line]
    step = int(lines[-1]["step"])
    return Taken(step, memory, int(status["Threads"]), len(os.listdir(folder / "fd")), median(times))


def described(out: Path, output: Path) -> Iterator[str]:
    """Yield lines about what the run has written."""
    for name in ("config.toml", "manifest.json", "metrics.jsonl", "evaluation.json"):
        yield f"{name}: {size((out / name).stat().st_size)}"
    for name in ("samples", "checkpoints"):
        files = list((out / name).iterdir())
        yield f"{name}: {len(files):,} files, {size(sum(file.stat().st_size for file in files))}"
    text = output.read_bytes()
    yield f"output of the command: {text.count(10):,} lines, {size(len(text))}"
    run = gancore.open(out)
    started = time.perf_counter()
    lines = len(run.metrics)
    yield f"Run.metrics: {lines:,} lines in {time.perf_counter() - started:.3f} s"


def size(count: int) -> str:
    return f"{count / 1e6:.3f} MB" if count >= 100_000 else f"{count:,} bytes"


if __name__ == "__main__":
    main()
