"""How long it takes from the command on to make the first step, and to draw samples: whole processes, in turns."""

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
from benchmarks.speed import races
from benchmarks.speed.timing import Begin, Series, in_turns

SECTION = "start"
SINGLE_RANK = "import torch"
SAMPLED = "gancore sample, 10,000 images"


def measured(names: Collection[str], folder: Path, work: Path, rounds: int) -> list[Series]:
    """Seconds of whole processes: of `import torch`, and of the arms that are named, to their first step.

    `gancore train` says when it has made that; the plain script ends before it. What gancore trains, it then samples.
    """
    out = work / "first-step"
    script = ["-m", "benchmarks.plain", "--epochs", "0", "--samples", "1", "--data-dir", str(folder)]
    train = ["-m", "gancore_cli", "train", "vanilla", "--steps", "1", "--set", "log.every_steps=1", "--device", "cpu"]
    images = out.with_name("sampled.npy")
    sample = ["-m", "gancore_cli", "sample", str(out), "-n", "10000", "--device", "cpu", "--out", str(images)]
    arms: dict[str, Begin] = {
        races.SCRIPT: lambda: partial(_seconds, [*script, "--out", f"{out}.npy"]),
        races.OURS: lambda: partial(
            _seconds, [*train, "--data-dir", str(folder), "--out", str(out)], word="step 1 ", made=out
        ),
    }
    chosen = {name: begin for name, begin in arms.items() if name in names}
    if races.OURS in chosen:
        chosen[SAMPLED] = lambda: partial(_seconds, sample, made=images)
    alone: dict[str, Begin] = {SINGLE_RANK: lambda: partial(_seconds, ["-c", "import torch"])}
    return in_turns(SECTION, alone | chosen, rounds=rounds, steps=1, batch=1, warm_up=False)


def _seconds(arguments: list[str], _steps: int, *, word: str = "", made: Path | None = None) -> float:
    """How long Python takes until a line of its errors begins with the word, or without one until it ends."""
    if made is not None and made.is_dir():
        rmtree(made)
    elif made is not None:
        made.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said: list[str] = []
    begun = perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        seen = None
        for line in process.stderr or ():
            said.append(line.strip())
            if word and seen is None and line.startswith(word):
                seen = perf_counter() - begun
    ended = perf_counter() - begun
    if process.returncode or (word and seen is None):
        raise ProgramError(process.returncode, said[-1] if said else f"it did not say {word!r}")
    return seen or ended
