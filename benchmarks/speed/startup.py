"""Time from the command to the first step, and of other commands: whole processes, interleaved."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from shutil import rmtree
from time import perf_counter

from benchmarks.machine import ROOT, ProgramError
from benchmarks.speed import comparisons
from benchmarks.speed.timing import Series, Start, interleave

SECTION = "start"
IMPORT_TORCH = "import torch"
DEFAULT = "gancore, default run"
SAMPLE = "gancore sample, 10,000 images"
HELP = "gancore --help"
LIST = "gancore list"


def measure(names: Collection[str], folder: Path, work: Path, rounds: int) -> list[Series]:
    """Time whole processes: `import torch`, and the named arms until their first step.

    `gancore train` logs its first step; the plain script exits before it. The run of gancore is then sampled. With it
    the default run and two commands that do not train are timed.
    """
    out, default, images = work / "first-step", work / "default-run", work / "sampled.npy"
    script = ["-m", "benchmarks.plain", "--epochs", "0", "--samples", "1", "--data-dir", str(folder)]
    gancore, cpu = ["-m", "gancore_cli"], ["--device", "cpu"]
    train = [*gancore, "train", "--steps", "1", "--set", "log.every_steps=1", *cpu, "--out"]
    vanilla = [*train, str(out), "vanilla", "--data-dir", str(folder)]
    sample = [*gancore, "sample", str(out), "-n", "10000", *cpu, "--out", str(images)]
    ours: dict[str, Start] = {
        comparisons.OURS: lambda: partial(_seconds, vanilla, until="step 1 ", output=out),
        DEFAULT: lambda: partial(_seconds, [*train, str(default)], until="step 1 ", output=default),
        SAMPLE: lambda: partial(_seconds, sample, output=images),
        HELP: lambda: partial(_seconds, [*gancore, "--help"]),
        LIST: lambda: partial(_seconds, [*gancore, "list"]),
    }
    arms: dict[str, Start] = {IMPORT_TORCH: lambda: partial(_seconds, ["-c", "import torch"])}
    if comparisons.SCRIPT in names:
        arms[comparisons.SCRIPT] = lambda: partial(_seconds, [*script, "--out", f"{out}.npy"])
    if comparisons.OURS in names:
        arms |= ours
    return interleave(SECTION, arms, rounds=rounds, steps=1, batch=1, warm_up=False)


def _seconds(arguments: list[str], _steps: int, *, until: str = "", output: Path | None = None) -> float:
    """Return the seconds until a line of standard error starts with `until`, or without it until the process exits.

    Removes the output of an earlier round first.
    """
    if output is not None and output.is_dir():
        rmtree(output)
    elif output is not None:
        output.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    lines: list[str] = []
    start = perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        first_step = None
        for line in process.stderr or ():
            lines.append(line.strip())
            if until and first_step is None and line.startswith(until):
                first_step = perf_counter() - start
    total = perf_counter() - start
    if process.returncode or (until and first_step is None):
        raise ProgramError(process.returncode, lines[-1] if lines else f"no line begins with {until!r}")
    return first_step or total
