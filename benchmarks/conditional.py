"""Whether a conditional run draws what it is asked for: samples of every class, read by a classifier.

    python -m benchmarks.conditional --seeds 5 --data-dir DATA --work WORK --out benchmarks/conditional.md

Trains the recipe `conditional` with each seed, draws 1,000 samples of every class with `gancore sample --class`, and
counts how many the classifier of the extractor `digits` reads as that class. Beside them stand the test images of the
class. `--jobs` trains so many at once, each with its share of the cores. Runs that lie in WORK are not trained again.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import called, commit, described
from gancore import Catalog, EvaluationPaths, ReferenceImages, read_images
from gancore.config.run import read_dataset
from gancore.data.items import read_items
from gancore.evaluation.features import FeatureExtractor
from gancore.evaluation.sources import reference_of
from gancore.evaluation.train_extractor import load_extractor
from gancore_plugins.extractors.digits import DigitsExtractor

SAMPLES = 1000
CLASSES = 10
ENOUGH = 0.97


def main() -> None:
    arguments = parsed()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(lambda seed: trained(arguments, seed), range(arguments.seeds)))
    reader = classifier(arguments)
    shares = [[share_read_as(reader, sampled(arguments, run, each), each) for each in range(CLASSES)] for run in runs]
    commits = {run.with_suffix(".commit").read_text(encoding="utf-8") for run in runs}
    text = report(shares, real_shares(reader, arguments.data_dir), arguments, commits)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--cache", type=Path, help="folder for the classifier  [default: inside --work]")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and samples")
    parser.add_argument("--out", type=Path, required=True, help="the table")
    return parser.parse_args(words)


def trained(arguments: argparse.Namespace, seed: int) -> Path:
    folder: Path = arguments.work / f"conditional-{seed}"
    ended = folder.with_suffix(".commit")
    if not ended.exists():
        print(f"seed {seed}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted benchmark
        where = ["--data-dir", arguments.data_dir, "--device", "cpu", "--out", folder, "-q"]
        called("gancore_cli", "train", "conditional", "--seed", seed, *where, jobs=arguments.jobs)
        ended.write_text(commit(), encoding="utf-8")
    return folder


def sampled(arguments: argparse.Namespace, run: Path, label: int) -> Tensor:
    """Samples of a class, as the command line draws them."""
    file = run.with_name(f"{run.name}-class-{label}.npy")
    asked = ["--class", label, "-n", SAMPLES, "--seed", label, "--device", "cpu", "-q", "--out", file]
    called("gancore_cli", "sample", run, *asked)
    return read_images(file)


def classifier(arguments: argparse.Namespace) -> FeatureExtractor:
    """Learns MNIST, unless it is in the cache."""
    dataset = read_dataset("mnist", Catalog.installed())
    place = EvaluationPaths(arguments.data_dir, arguments.cache or arguments.work / "cache", torch.device("cpu"))
    shape = tuple(ReferenceImages.of(dataset, arguments.data_dir).draw(1, 0, "shape").shape[1:])
    opening = load_extractor(DigitsExtractor(), dataset, shape, CLASSES, place)
    while True:
        try:
            next(opening)
        except StopIteration as done:
            reader: FeatureExtractor = done.value
            return reader


def share_read_as(reader: FeatureExtractor, images: Tensor, label: int) -> float:
    """The share of the images that the classifier reads as this class."""
    return float(reader.extract(images).shares()[label])


def real_shares(reader: FeatureExtractor, root: Path) -> list[float]:
    """The same of the test images of each class."""
    held_out, _ = reference_of(read_dataset("mnist", Catalog.installed()))
    images, labels = read_items(ReferenceImages.of(held_out, root).images, None)
    return [share_read_as(reader, images[labels == each], each) for each in range(CLASSES)]


def report(shares: list[list[float]], real: list[float], arguments: argparse.Namespace, commits: set[str]) -> str:
    enough = sum(min(row) >= ENOUGH for row in shares)
    lines = [
        "# Classes that were asked for",
        "",
        f"`python -m benchmarks.conditional --seeds {arguments.seeds} --jobs {arguments.jobs}`, with --data-dir, "
        f"--work and --out, at commit {', '.join(sorted(commits))}. {described(arguments.jobs)}",
        "",
        f"Of {SAMPLES:,} samples of each class, the share in per cent that the classifier `digits` reads as that "
        f"class. All classes at {ENOUGH:.0%} or more: {enough} of {len(shares)} seeds.",
        "",
        "| seed | " + " | ".join(map(str, range(CLASSES))) + " | lowest |",
        "| --- |" + " --- |" * (CLASSES + 1),
    ]
    rows = [("test images", real), *((str(seed), row) for seed, row in enumerate(shares))]
    for name, row in rows:
        lines.append(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in (*row, min(row))) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
