"""Time from the command to the first step, and to draw samples: whole processes, interleaved."""

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
SAMPLE = "gancore sample, 10,000 images"


def measure(names: Collection[str], folder: Path, work: Path, rounds: int) -> list[Series]:
    """Time whole processes: `import torch`, and the named arms until their first step.

    `gancore train` logs its first step; the plain script exits before it. The run of gancore is then sampled.
    """
    out = work / "first-step"
    script = ["-m", "benchmarks.plain", "--epochs", "0", "--samples", "1", "--data-dir", str(folder)]
    train = ["-m", "gancore_cli", "train", "vanilla", "--steps", "1", "--set", "log.every_steps=1", "--device", "cpu"]
    images = out.with_name("sampled.npy")
    sample = ["-m", "gancore_cli", "sample", str(out), "-n", "10000", "--device", "cpu", "--out", str(images)]
    arms: dict[str, Start] = {
        comparisons.SCRIPT: lambda: partial(_seconds, [*script, "--out", f"{out}.npy"]),
        comparisons.OURS: lambda: partial(
            _seconds, [*train, "--data-dir", str(folder), "--out", str(out)], until="step 1 ", output=out
        ),
    }
    chosen = {name: begin for name, begin in arms.items() if name in names}
    if comparisons.OURS in chosen:
        chosen[SAMPLE] = lambda: partial(_seconds, sample, output=images)
    torch: dict[str, Start] = {IMPORT_TORCH: lambda: partial(_seconds, ["-c", "import torch"])}
    return interleave(SECTION, torch | chosen, rounds=rounds, steps=1, batch=1, warm_up=False)


def _seconds(arguments: list[str], _steps: int, *, until: str = "", output: Path | None = None) -> float:
    """Return the seconds until a line of standard error starts with `until`, or without it until the process exits.

    Removes the output of an earlier round first.
    """
    if output is not None and output.is_dir():
        rmtree(output)
    elif output is not None:
        output.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
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
