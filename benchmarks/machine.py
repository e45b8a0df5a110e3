"""What benchmarks share: running programs, keeping results, and describing the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch

import gancore
from gancore.utils.cores import cores_in_words, usable_cores

ROOT = Path(__file__).parents[1]
PATH = os.pathsep.join(str(ROOT / folder) for folder in ("", "plugins", "cli"))
"""Where programs find this working tree, whatever is installed."""
R = TypeVar("R")
"""The result of a run, a dataclass."""


class ProgramError(Exception):
    """A program exited with a code other than 0; the message is its standard error."""

    def __init__(self, code: int, stderr: str) -> None:
        super().__init__(f"exit code {code}: {stderr}")
        self.code = code


def run_module(module: str, *arguments: object, jobs: int = 1) -> str:
    """Return what `python -m module` prints. With several jobs, it gets its share of the cores.

    Raises ProgramError.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads_per_job(jobs)), "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ProgramError(done.returncode, done.stderr.strip())
    return done.stdout


def threads_per_job(jobs: int) -> int:
    return max(1, usable_cores() // jobs)


def commit() -> str:
    """Return the commit of the working tree, with -dirty if anything was changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def write_report(out: Path, text: str, rows: Iterable[object]) -> None:
    """Write the table to OUT.md and its rows, which are dataclasses, to OUT.json; print the table.

    A missing folder is made.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    data = json.dumps([asdict(row) for row in rows], indent=1)  # type: ignore[call-overload]  # instances, all of them
    out.with_suffix(".json").write_text(data + "\n", encoding="utf-8")
    print(text)


def recorded(record: Path, kind: type[R], make: Callable[[], R]) -> R:
    """Return the result in a file, which is made and written if it is absent: so no run is repeated."""
    if not record.exists():
        record.write_text(json.dumps(asdict(make())), encoding="utf-8")  # type: ignore[call-overload]  # as above
    return kind(**json.loads(record.read_text(encoding="utf-8")))


def grouped(results: Iterable[R], key: Callable[[R], str]) -> dict[str, list[R]]:
    """Return the results of each arm, in the order in which the arms come first."""
    groups: dict[str, list[R]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups


def describe_machine(jobs: int | None = None, device: str = "the CPU") -> str:
    """Describe the processor, the versions and how the cores were shared, without names of people or hosts."""
    shared = ""
    if jobs is not None:
        threads = threads_per_job(jobs)
        shared = f", {jobs} job{'s' * (jobs > 1)} in parallel with {threads} thread{'s' * (threads > 1)} each"
    versions = f"gancore {gancore.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return f"{processor()}, {cores_in_words()}{shared}, on {device}; {versions}."


def processor() -> str:
    """Return the architecture and, on Linux, the model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join([platform.machine(), *sorted(models)])
