"""The peak memory of an arm, in a process of its own that makes a few steps."""

from __future__ import annotations

import argparse
import platform
import re
import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.machine import ProgramError, run_module
from benchmarks.speed import comparisons

SECTION = "memory"
TORCH_ONLY = "torch only"


@dataclass(frozen=True)
class Peak:
    """The peak of resident memory in MiB, or in `missing` the reason why it was not measured."""

    section: str
    arm: str
    mebibytes: float = 0
    missing: str = ""


def measure(names: list[str], folder: Path, work: Path, steps: int, threads: int) -> list[Peak]:
    """Return the peak of torch without an arm, and of each named arm of the comparison on `vanilla`."""
    peaks = []
    for name in [TORCH_ONLY, *names]:
        print(f"{SECTION}: {name}", flush=True)
        options = [name, "--steps", steps, "--threads", threads, "--data-dir", folder, "--work", work]
        try:
            peaks.append(Peak(SECTION, name, float(run_module("benchmarks.speed.memory", *options).split()[-1])))
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
    if arguments.arm != TORCH_ONLY:
        comparisons.arms("vanilla", arguments.data_dir, arguments.work)[arguments.arm]()(arguments.steps)
    print(peak_resident() / 2**20)


def peak_resident() -> int:
    """Return the peak of resident memory in bytes.

    `ru_maxrss` on Linux includes the peak of the parent process, so it is only used elsewhere.
    """
    status = Path("/proc/self/status")
    own = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8")) if status.exists() else None
    peak = int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else 1024 * peak


if __name__ == "__main__":
    main()
