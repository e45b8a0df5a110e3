"""How fast a step is on a GPU: by gancore in each precision, as a CUDA graph, and by the plain script moved there.

    python -m benchmarks.gpu --data-dir DATA --work WORK --out benchmarks/gpu

Arms take turns within one process, and the device is waited for at the end of each round. Then `gancore train vanilla`
is timed as a whole, for so many epochs. OUT.md is the page, OUT.json every round.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import rmtree

import torch
from torch import Tensor

from benchmarks.machine import called, commit, described, keep
from benchmarks.speed import byhand, ours, races, scripts
from benchmarks.speed.report import ratio
from benchmarks.speed.scripts import Loader
from benchmarks.speed.timing import Begin, RunConfig, Series, in_turns

CHANGES: dict[str, dict[str, object]] = {
    races.OURS: {},
    "gancore, tf32": {"precision": "tf32"},
    races.OURS_BF16: {"precision": "bf16"},
    "gancore, as a graph": {"cuda_graph": True},
    "gancore, bf16, as a graph": {"precision": "bf16", "cuda_graph": True},
}
RECIPES = tuple(byhand.PLANS)
WHOLE = "whole run"


def main(words: Sequence[str] | None = None) -> None:
    arguments = parsed(words)
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows: list[Series] = []
    for recipe in RECIPES:
        chosen, batch = arms(recipe, arguments), byhand.PLANS[recipe].batch
        rows += in_turns(recipe, chosen, rounds=arguments.rounds, steps=arguments.steps, batch=batch)
    rows.append(whole(arguments))
    keep(arguments.out, page(rows, arguments), rows)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300, help="of an arm in a round")
    parser.add_argument("--epochs", type=float, default=50, help="of the whole run of vanilla")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md and OUT.json are written")
    return parser.parse_args(words)


def arms(recipe: str, arguments: argparse.Namespace) -> dict[str, Begin]:
    """The ways to make the steps of a recipe; those of the plain script are steps of `vanilla`."""
    folder, device = arguments.data_dir, torch.device(arguments.device)
    loaders: dict[str, Callable[[Path], Loader]] = {
        races.SCRIPT: scripts.as_it_is,
        f"{races.SCRIPT}, data in memory": scripts.InMemory,
    }

    def script(load: Callable[[Path], Loader]) -> RunConfig:
        return scripts.begun(Moved(load(folder), device), device)

    def gancore(changes: Mapping[str, object]) -> RunConfig:
        return ours.begun(ours.assembled(recipe, folder, changes, arguments.device))

    others = loaders if recipe == "vanilla" else {}
    return {
        **{name: partial(script, load) for name, load in others.items()},
        **{name: partial(gancore, changes) for name, changes in CHANGES.items()},
    }


class Moved:
    """Batches of a loader, on the device, in as many epochs as are asked for."""

    def __init__(self, loader: Loader, device: torch.device) -> None:
        self._loader, self._device = loader, device

    def __iter__(self) -> Iterator[list[Tensor]]:
        for batch in self._loader:
            yield [each.to(self._device) for each in batch]


def whole(arguments: argparse.Namespace) -> Series:
    """Seconds of the training of `gancore train vanilla`, as its log has them."""
    out = arguments.work / "whole"
    rmtree(out, ignore_errors=True)
    print(f"{WHOLE}: {arguments.epochs:g} epochs", flush=True)
    where = ["--data-dir", arguments.data_dir, "--device", arguments.device, "--out", out, "-q"]
    called("gancore_cli", "train", "vanilla", "--epochs", arguments.epochs, *where)
    last = json.loads((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return Series(WHOLE, races.OURS, round(1000 * last["kimg"]), [last["seconds"]], value=arguments.epochs)


def page(rows: Sequence[Series], arguments: argparse.Namespace) -> str:
    cuda = torch.device(arguments.device).type == "cuda"
    name = torch.cuda.get_device_name(arguments.device) if cuda else "the CPU"
    lines = [
        "# How fast a step is on a GPU",
        "",
        f"`python -m benchmarks.gpu --rounds {arguments.rounds} --steps {arguments.steps} --epochs "
        f"{arguments.epochs:g}`, with --data-dir, --work and --out, at commit {commit()}. {described(device=name)}",
        "",
        f"{arguments.rounds} rounds of {arguments.steps} steps. Ratios are those of rounds side by side, their median "
        "and quartiles: how many times as fast as the arm gancore is.",
    ]
    for recipe in RECIPES:
        mine = [row for row in rows if row.section == recipe]
        base = next((row for row in mine if row.arm == races.OURS and row.seconds), None)
        lines += [
            "",
            f"## Recipe {recipe}",
            "",
            "| arm | images a second | gancore is faster, times |",
            "| --- | --- | --- |",
        ]
        for row in mine:
            if row.missing:
                lines.append(f"| {row.arm} | not measured: {row.missing} |  |")
            else:
                lines.append(f"| {row.arm} | {row.pace:,.0f} | {ratio(base.times(row)) if base else ''} |")
    (run,) = (row for row in rows if row.section == WHOLE)
    lines += ["", f"`gancore train vanilla --epochs {run.value:g}`: {run.seconds[0]:.1f} s of training."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
