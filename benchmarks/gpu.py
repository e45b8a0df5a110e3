"""Everything that needs a GPU, in one command that ends within 15 minutes and writes a report.

    python -m benchmarks.gpu --data PICTURES --data-dir DATA --work WORK --out gpu

Each section is a command of its own with a time limit: the tests marked `cuda` (graphs, the finite check, precisions,
NCCL with one rank), training on your pictures in each way that is special to CUDA, a resumed run, and the comparison
with the plain script (`benchmarks.speed`). A section that fails does not end the others. OUT.md has the table, and the
end of what each command printed. With `--device cpu` the same commands run without a GPU, to try the program itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from benchmarks.machine import ROOT, commit, describe_machine

TRAINING: Mapping[str, Sequence[str]] = {
    "fp32": (),
    "tf32": ("--precision", "tf32"),
    "bf16": ("--precision", "bf16"),
    "CUDA graph": ("--set", "training.cuda_graph=true"),
    "bf16, CUDA graph": ("--precision", "bf16", "--set", "training.cuda_graph=true"),
}
"""Ways to train on the pictures, with their options."""


@dataclass(frozen=True)
class Section:
    """What one command did: its exit code (None: it reached the time limit), seconds, and the end of its output.

    `speed` is the median of images per second in the log of a run, without its first line.
    """

    name: str
    command: str
    code: int | None
    seconds: float
    output: str
    speed: float | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: torch finds no CUDA device here; --device cpu tries the program itself")
    for folder in (options.work, options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "the CPU"
    sections = list[Section]()
    for name, command, limit in commands(options):
        print(f"{name} …", flush=True)
        sections.append(run(name, command, limit, options))
        report = page(sections, device)  # after each, in case the machine is taken away
        options.out.with_suffix(".md").write_text(report, encoding="utf-8")
        options.out.with_suffix(".json").write_text(json.dumps([asdict(each) for each in sections], indent=1) + "\n")
    print(report)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="a folder or archive of real pictures")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with the files of MNIST")
    parser.add_argument("--work", type=Path, required=True, help="new folder for runs")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=500, help="steps of each run on the pictures")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of benchmarks.speed")
    options = parser.parse_args(arguments)
    for name in ("data", "data_dir", "work", "out"):  # the commands run in the folder of the checkout
        setattr(options, name, getattr(options, name).resolve())
    return options


def commands(options: argparse.Namespace) -> list[tuple[str, list[str], float]]:
    """Return name, arguments of Python, and time limit in seconds of each section; 15 minutes together."""
    device, folder = options.device, ["--data-dir", str(options.data_dir)]
    train = ["-m", "gancore_cli", "train", str(options.data), "--device", device, "--steps", str(options.steps)]
    logged = ["--set", f"log.every_steps={max(1, options.steps // 10)}"]
    found = [("tests marked cuda", ["-m", "pytest", "-q", "-n0", "-m", "cuda", "-rfE", "tests/core"], 240.0)]
    found += [
        (f"train, {name}", [*train, *logged, "--out", str(out(options, name)), *extra], 60.0)
        for name, extra in TRAINING.items()
        if device == "cuda" or name != "tf32"
    ]
    resume = ["-m", "gancore_cli", "resume", str(out(options, "CUDA graph")), "--device", device]
    found.append(("resume, CUDA graph", [*resume, "--steps", str(2 * options.steps)], 60.0))
    speed = ["-m", "benchmarks.speed", "--device", device, *folder, "--work", str(options.work / "speed")]
    speed += ["--sections", "vanilla", "mnist", "dcgan", "--rounds", str(options.rounds), "--steps", "50"]
    found.append(("speed", [*speed, "--out", str(options.work / "speed-report")], 300.0))
    return found


def out(options: argparse.Namespace, name: str) -> Path:
    """Return the folder of the run that is trained in this way."""
    folder: Path = options.work / name.replace(", ", "-").replace(" ", "-")
    return folder


def run(name: str, command: Sequence[str], limit: float, options: argparse.Namespace) -> Section:
    """Run Python with these arguments for at most `limit` seconds."""
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "plugins", "cli", "tests"))
    environment = os.environ | {"PYTHONPATH": paths, "GANCORE_TEST_DATA": str(options.data_dir)}
    begun, code = perf_counter(), None
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            check=False,
        )
        code, printed = done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        printed = (expired.stdout or b"").decode(errors="replace")
    seconds = perf_counter() - begun
    shown = " ".join(["python", *command])
    for path, label in ((options.work, "WORK"), (options.data_dir, "DATA"), (options.data, "PICTURES")):
        shown, printed = (text.replace(str(path), label) for text in (shown, printed))
    folder = out(options, name.partition(", ")[2])
    speed = images_per_second(folder / "metrics.jsonl") if name.startswith(("train, ", "resume, ")) else None
    return Section(name, shown, code, round(seconds, 1), "\n".join(printed.splitlines()[-25:]), speed)


def images_per_second(log: Path) -> float | None:
    """Return the median of a log without its first line, whose steps include the start; None without a log."""
    if not log.exists():
        return None
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line][1:]
    return median(speeds) if speeds else None


def page(sections: Sequence[Section], device: str) -> str:
    """Return the report."""
    lines = ["# On a GPU", "", describe_machine(device=device), f"Commit {commit()}.", ""]
    lines += ["| section | result | seconds | images per second |", "| --- | --- | --- | --- |"]
    for section in sections:
        result = "time limit" if section.code is None else "ok" if section.code == 0 else f"exit code {section.code}"
        speed = "" if section.speed is None else f"{section.speed:,.0f}"
        lines.append(f"| {section.name} | {result} | {section.seconds} | {speed} |")
    for section in sections:
        lines += ["", f"## {section.name}", "", "```text", section.command, "", section.output, "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
