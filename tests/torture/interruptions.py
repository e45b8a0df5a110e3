"""Interrupted runs, whose results must equal those of uninterrupted runs.

    python tests/torture/interruptions.py 200

A schedule, drawn from a number, is a small run of built-in components and one to four interruptions of it: SIGTERM,
SIGINT, SIGKILL, or an error inside a plugin, at any call of a component, each time also right after resuming. It is
compared with the same run without interruptions. The numbers 0 to 11 use every built-in loss, regularizer,
augmentation, optimizer and dataset, and four families of GANs: a loss with a network, a generator that encodes images,
pictures as conditions, and a generator with styles.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from PIL import Image

from gancore.checkpoint import store as checkpoint
from helpers import idx_files as idxfiles
from helpers.cli_forkserver import Zygote

PARTS = ("--generator", "mlp", "--discriminator", "mlp", "--loss", "bce", "--dataset", "digits")
TRAPS = Path(__file__).parents[1] / "helpers" / "crash_plugin.py"
LOSSES = ("bce", "hinge", "lsgan", "minimax", "relativistic", "relativistic-average", "wasserstein")
REGULARIZERS = (
    *("r1", "r2", "wgan-gp", "dragan", None),
    *("lecam", "r1-approximate", "r2-approximate", "weight-clipping", None),
)
AUGMENTATIONS = ("ada", "diffaugment", None)
OPTIMIZERS = ("Adam", "AdamW", "Adamax", "Adagrad", "Adadelta", "NAdam", "RAdam", "RMSprop", "SGD")
DATASETS = ("mnist", "kmnist", "fashion-mnist", "cifar10", "digits", "folder", "grid", "ring", "stacked-mnist")
FAMILIES = {
    0: {
        "generator": '{name = "unet", width = 4}',
        "discriminator": '{name = "patches", width = 4}',
        "loss": '{name = "trapped", loss = {name = "pix2pix"}}',
        "dataset": '{name = "trapped", dataset = {name = "edges", pictures = {name = "digits"}}, count = 30}',
        "training.conditional": "true",
    },
    1: {
        "generator": '{name = "style", width = 8, style = 8, depth = 1}',
        "discriminator": '{name = "light", width = 4, reconstructs = true}',
        "loss": '{name = "trapped", loss = {name = "hinge"}}',
        "dataset": '{name = "trapped", dataset = {name = "digits"}, count = 30}',
        "regularizers.path-length.interval": "2",
        "regularizers.reconstruction": "{}",
        "regularizers.consistency": "{}",
    },
    4: {
        "loss": '{name = "trapped", loss = {name = "infogan"}}',
        "optimizer.discriminator.groups": '[{prefix = "loss", lr_factor = 0.5}]',
        "training.generator_steps": "2",
    },
    9: {
        "generator": '{name = "bidirectional"}',
        "discriminator": '{name = "joint"}',
        "loss": '{name = "trapped", loss = {name = "bigan"}}',
    },
}
"""Parts of families of GANs, by the number of a schedule modulo 12."""
CODES = {"TERM": {143}, "INT": {130}, "KILL": {-9}, "ERROR": {5}, "TWICE": {130, 143}}
CLOCK = {"seconds", "images_per_second"}
ITEMS = 30


@dataclass(frozen=True)
class Schedule:
    """A run as arguments of `--set`, and where it is interrupted: `PLACE:CALL:HOW`."""

    number: int
    settings: tuple[str, ...]
    interruptions: tuple[str, ...]

    def __str__(self) -> str:
        return f"schedule {self.number}: {' '.join(self.settings)}; {', '.join(self.interruptions)}"


def draw(number: int) -> Schedule:
    """Return the schedule of a number, which is always the same."""
    dice = random.Random(number)  # noqa: S311  # a test draws
    dataset = DATASETS[number % len(DATASETS)]
    plane = dataset in ("grid", "ring")
    parts = {
        "generator": '{name = "mlp", widths = [16], normalization = "batch"}',
        "discriminator": '{name = "mlp", widths = [16], dropout = 0.2}',
        "loss": f'{{name = "trapped", loss = {{name = "{LOSSES[number % len(LOSSES)]}"}}}}',
        "dataset": dataset_of(dataset),
        "duration": '"14 steps"',
        "batch_size": str(dice.choice((7, 8))),
        "latent.dim": "8",
        "seed": str(number),
        "checkpoint.every_steps": str(dice.randint(1, 6)),
        "checkpoint.keep": str(dice.randint(2, 3)),
        "log.every_steps": str(dice.randint(1, 4)),
        "sample.every_kimg": str(dice.choice((0.02, 0.05))),
        "sample.count": "4",
        "evaluate.samples": "16",
        "evaluate.every_kimg": str(dice.choice((0.02, 0.03))),
        "training.fakes": f'"{dice.choice(("shared", "fresh"))}"',
        "training.discriminator_steps": str(dice.choice((1, 1, 2))),
        "training.data": f'"{(streamed := dice.choice(("device", "stream", "stream")))}"',
        "training.workers": str(2 if streamed == "stream" and number % 2 else 0),
        "metrics.looks": "{}",
        "checkpoint.best": '"looks"',
    }
    for place, player in enumerate(("generator", "discriminator")):
        parts[f"optimizer.{player}.name"] = f'"{OPTIMIZERS[(number + 4 * place) % len(OPTIMIZERS)]}"'
        parts[f"optimizer.{player}.lr"] = dice.choice(("1e-3", "{from = 1e-3, to = 1e-4}"))
    if regularizer := REGULARIZERS[number % len(REGULARIZERS)]:
        parts[f"regularizers.{regularizer}"] = "{}"
        if regularizer in ("r1", "r2"):
            parts[f"regularizers.{regularizer}.interval"] = "2"
        if regularizer.endswith("-approximate"):  # they refuse a D that draws random numbers
            parts["discriminator"] = '{name = "mlp", widths = [16]}'
    if (augmentation := AUGMENTATIONS[number % len(AUGMENTATIONS)]) and not plane:
        parts[f"augmentations.{augmentation}"] = "{}"
    if dataset not in ("folder", "grid", "ring", "stacked-mnist") and dice.random() < 0.4:
        parts["training.conditional"] = "true"
    if dice.random() < 0.7:
        parts["ema.half_life_kimg"] = "0.02"
    if number % 12 == 10:  # a loss that needs labels, and a discriminator that classifies images
        parts["dataset"] = dataset_of("kmnist")
        parts["loss"] = '{name = "trapped", loss = {name = "auxiliary-classifier"}}'
        parts["discriminator"] = '{name = "subpixel", width = 8, depth = 1, classifier = true}'
        parts["training.conditional"] = "true"
    if family := FAMILIES.get(number % 12):
        parts = {key: value for key, value in parts.items() if not key.startswith(("regularizers", "augmentations"))}
        parts |= {"training.conditional": "false"} | family
    interruptions = tuple(_interruption(dice, streamed) for _ in range(dice.randint(1, 4)))
    return Schedule(number, tuple(f"{key}={value}" for key, value in parts.items()), interruptions)


def _interruption(dice: random.Random, data: str) -> str:
    place = dice.choice(("discriminator", "generator", "look", *(["item"] if data == "stream" else [])))
    most = {"look": 4, "item": 120}.get(place, 14)
    how = dice.choice(("TERM", "INT", "KILL", "KILL", "ERROR"))
    return f"{place}:{dice.randint(0, most)}:{how}"


def dataset_of(name: str) -> str:
    """Return a dataset of the first items of another, with traps."""
    inner = {"folder": '{name = "folder", path = "pictures", size = 8}'}.get(name, f'{{name = "{name}"}}')
    return f'{{name = "trapped", dataset = {inner}, count = {ITEMS}}}'


def write_data(folder: Path) -> Path:
    """Write small files of every dataset; return the folder for `--data-dir`."""
    for name in ("MNIST", "KMNIST", "FashionMNIST"):
        for split in ("train", "test"):
            idxfiles.write(folder / name / "raw", *idxfiles.example(ITEMS), split=split)
    pixels = np.random.default_rng(0).integers(0, 256, (ITEMS, 3, 8, 8), dtype=np.uint8)
    batches = folder / "cifar-10-batches-bin"
    batches.mkdir(parents=True)
    large = pixels.repeat(4, axis=2).repeat(4, axis=3)
    records = b"".join(bytes([place % 10]) + image.tobytes() for place, image in enumerate(large))
    for name in (*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"):
        (batches / name).write_bytes(records)
    (folder / "pictures").mkdir()
    for place, image in enumerate(pixels):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / "pictures" / f"{place:02d}.png")
    return folder


def outcome(run: Path) -> dict[str, object]:
    """Return all results of a run, except times."""
    newest = checkpoint.select(run)
    saved = newest.checkpoint
    best = checkpoint.load(checkpoint.best_of(run / "checkpoints"))
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluation = json.loads((run / "evaluation.json").read_text())
    return {
        "progress": {key: value for key, value in saved.about["progress"].items() if key not in CLOCK},
        "tensors": digests(saved.tensors),
        "best": (best.about["progress"]["step"], digests(best.tensors)),
        "recorded": saved.about["recorded"],
        "log": [{key: value for key, value in line.items() if key not in CLOCK} for line in log],
        "evaluation": {key: value for key, value in evaluation.items() if key not in CLOCK},
        "pictures": {path.name: path.read_bytes() for path in (run / "samples").iterdir()},
        "newest": newest.path.name,  # an interruption leaves one more checkpoint
    }


def digests(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    return {
        name: hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in tensors.items()
    }


def check(schedule: Schedule, zygote: Zygote, data: Path, folder: Path) -> list[str]:
    """Run a schedule with and without its interruptions; return the differences."""
    settings = [each.replace('"pictures"', f'"{data / "pictures"}"') for each in schedule.settings]
    words = ["--plugin", TRAPS, "train", *PARTS, *(word for each in settings for word in ("--set", each))]
    words += ["--data-dir", data, "--device", "cpu", "-q", "--resume", "--out"]
    whole = zygote.run(folder, *words, "whole", GANCORE_CACHE=str(folder))
    if whole.returncode:
        return [f"the uninterrupted run ended with {whole.returncode}: {whole.stderr}"]
    for interruption in schedule.interruptions:
        done = zygote.run(folder, *words, "torn", GANCORE_CACHE=str(folder), GANCORE_TRAP=interruption)
        place, _, how = interruption.split(":")
        lost = {9} if place == "item" and "training.workers=2" in settings else set()
        if done.returncode not in {0, *CODES[how], *lost}:
            return [f"{interruption} ended with {done.returncode}: {done.stderr}"]
    last = zygote.run(folder, *words, "torn", GANCORE_CACHE=str(folder), GANCORE_TRAP="::")
    if last.returncode:
        return [f"the last resume ended with {last.returncode}: {last.stderr}"]
    one, other = outcome(folder / "whole"), outcome(folder / "torn")
    return [f"{key} differ: {one[key]} and {other[key]}"[:2000] for key in one if one[key] != other[key]]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    zygote, failed = Zygote(), 0
    with tempfile.TemporaryDirectory() as work:
        data = write_data(Path(work) / "data")
        for number in range(count):
            folder = Path(work) / str(number)
            folder.mkdir()
            schedule = draw(number)
            wrong = check(schedule, zygote, data, folder)
            failed += bool(wrong)
            for line in [str(schedule), *wrong] if wrong else ():
                print(line, flush=True)
            if (number + 1) % 10 == 0:
                print(f"{number + 1 - failed} of {number + 1}", flush=True)
    zygote.close()
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
