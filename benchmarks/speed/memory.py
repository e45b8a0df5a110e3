"""The peak of an arm's memory, in a process of its own that makes a few steps."""

from __future__ import annotations

import argparse
import platform
import re
import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.machine import ProgramError, called
from benchmarks.speed import races

SECTION = "memory"
SINGLE_RANK = "torch alone"


@dataclass(frozen=True)
class Peak:
    """The most memory that was resident, in MiB; `missing` says why it is not known."""

    section: str
    arm: str
    mebibytes: float = 0
    missing: str = ""


def measured(names: list[str], folder: Path, work: Path, steps: int, threads: int) -> list[Peak]:
    """The peak of torch without an arm, and of each arm of the race of `vanilla` that is named."""
    peaks = []
    for name in [SINGLE_RANK, *names]:
        print(f"{SECTION}: {name}", flush=True)
        words = [name, "--steps", steps, "--threads", threads, "--data-dir", folder, "--work", work]
        try:
            peaks.append(Peak(SECTION, name, float(called("benchmarks.speed.memory", *words).split()[-1])))
        except ProgramError as error:
            peaks.append(Peak(SECTION, name, missing=str(error).splitlines()[-1]))
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.arm != SINGLE_RANK:
        races.arms("vanilla", arguments.data_dir, arguments.work)[arguments.arm]()(arguments.steps)
    print(resident() / 2**20)


def resident() -> int:
    """The peak in bytes. What Linux counts as a process's usage includes the peak of the one that started it."""
    status = Path("/proc/self/status")
    own = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8")) if status.exists() else None
    peak = int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else 1024 * peak


if __name__ == "__main__":
    main()
