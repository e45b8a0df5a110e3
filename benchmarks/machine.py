"""What benchmarks share: calling programs, and saying what they ran on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch

import gancore

ROOT = Path(__file__).parents[1]


class ProgramError(Exception):
    """A program ended with another code than 0; its own last words are the message."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"exit code {code}: {words}")
        self.code = code


def called(module: str, *arguments: object, jobs: int = 1) -> str:
    """What `python -m module` prints, with a share of the cores where several run at once. Raises ProgramError."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads(jobs)), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ProgramError(done.returncode, done.stderr.strip())
    return done.stdout


def threads(jobs: int) -> int:
    """The threads that each of so many programs gets."""
    return max(1, (os.cpu_count() or 1) // jobs)


def commit() -> str:
    """The commit of the working tree, and whether anything in it was changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def keep(out: Path, text: str, rows: Iterable[object]) -> None:
    """Writes OUT.md, the table, and OUT.json, every row of it, a dataclass; prints the table."""
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    data = json.dumps([asdict(row) for row in rows], indent=1)  # type: ignore[call-overload]  # instances, all of them
    out.with_suffix(".json").write_text(data + "\n", encoding="utf-8")
    print(text)


def described(jobs: int | None = None, device: str = "the CPU") -> str:
    """The machine and the versions, without names of people or hosts, and how its cores were shared."""
    shared = "" if jobs is None else f", {jobs} at once with {threads(jobs)} thread each"
    versions = f"gancore {gancore.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return f"{processor()}, {os.cpu_count()} cores{shared}, on {device}; {versions}."


def processor() -> str:
    """Architecture and model, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join([platform.machine(), *sorted(models)])
