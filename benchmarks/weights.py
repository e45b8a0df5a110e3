"""Check that a change keeps training bit-identical: the weights of short runs, here and in another checkout.

    python -m benchmarks.weights --against ../gancore-main --data-dir DATA
    python -m benchmarks.weights digits

Each recipe is trained for 300 steps on the CPU by the command line, in a process of its own. The program prints a
SHA-256 of all weights and optimizer state in the last checkpoint. With --against it also trains the recipes by the code
of that checkout, says whether the tensors are equal bit for bit, and exits with 1 where they are not. A part of a
network that has another name there is named by --renamed THERE=HERE, such as old_head=head.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.machine import ROOT

RECIPES = ("digits", "vanilla", "mnist", "wgan-gp", "conditional")
STEPS = 300
THREADS = 1
"""Threads of torch, the same for all runs: sums of another number of threads are rounded differently, and a run chooses
fewer threads than it may use."""
PARTS = ("generator.", "discriminator.", "ema.", "optimizer.")
"""Beginnings of the names of the tensors that are compared."""
EQUAL = "equal"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    all_equal = True
    with TemporaryDirectory(prefix="gancore-weights-") as folder:
        for recipe in options.recipes:
            weights = train(recipe, ROOT, options.data_dir, Path(folder, "here", recipe))
            line = f"{recipe:<12} {digest(weights)}"
            if options.against:
                others = train(recipe, options.against, options.data_dir, Path(folder, "there", recipe))
                comparison = compare(weights, renamed(others, dict(options.renamed)))
                all_equal = all_equal and comparison == EQUAL
                line += f"  {comparison}"
            print(line, flush=True)
    return 0 if all_equal else 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"[default: {' '.join(RECIPES)}]")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="root of another checkout of gancore")
    parser.add_argument("--data-dir", type=Path, help="folder that holds MNIST/raw")
    parser.add_argument("--renamed", type=_pair, action="append", default=[], metavar="THERE=HERE")
    options = parser.parse_args(arguments)
    options.recipes = options.recipes or list(RECIPES)
    if options.against and not (options.against / "gancore").is_dir():
        parser.error(f"--against must be the root of a checkout of gancore; there is no {options.against / 'gancore'}")
    return options


def train(recipe: str, checkout: Path, data_dir: Path | None, out: Path) -> dict[str, Tensor]:
    """Return the weights and the optimizer state after STEPS steps of the code of a checkout."""
    command = [sys.executable, "-P", "-m", "gancore_cli", "train", recipe, "--steps", str(STEPS)]
    command += ["--device", "cpu", "--out", str(out), "-q"]
    command += ["--set", f"checkpoint.every_steps={STEPS}", "--set", "evaluate.every_kimg=10000"]
    command += ["--data-dir", str(data_dir)] if data_dir else []
    path = os.pathsep.join(str(checkout.resolve() / folder) for folder in ("", "plugins", "cli"))
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(THREADS)})
    return read(out)


def read(run: Path) -> dict[str, Tensor]:
    """Return the tensors of a run's last checkpoint that training has changed, by name."""
    tensors = load_file(run / "checkpoints" / f"step-{STEPS:08d}.safetensors")
    return {name: tensors[name] for name in sorted(tensors) if name.startswith(PARTS)}


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def renamed(tensors: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Return the tensors with the parts of their names, between dots, replaced."""
    return {".".join(names.get(part, part) for part in name.split(".")): tensors[name] for name in tensors}


def _pair(text: str) -> tuple[str, str]:
    there, _, here = text.partition("=")
    return there, here


def compare(ours: dict[str, Tensor], others: dict[str, Tensor]) -> str:
    """Return `equal`, or which tensors only one side has or differ in type, shape or bytes."""
    names = ours.keys() | others.keys()
    different = sorted(
        name
        for name in names
        if not (name in ours and name in others and digest({name: ours[name]}) == digest({name: others[name]}))
    )
    return f"{len(different)} of {len(names)} tensors differ, first {different[0]}" if different else EQUAL


if __name__ == "__main__":
    sys.exit(main())
