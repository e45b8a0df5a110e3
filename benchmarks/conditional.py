"""Class accuracy of a conditional run: samples of every class, read by a classifier.

    python -m benchmarks.conditional --seeds 5 --data-dir DATA --work WORK --out benchmarks/conditional.md

Trains the recipe `conditional` with each seed, draws 1,000 samples of every class with `gancore sample --class`, and
counts how many the classifier of the extractor `classifier` assigns to that class, and the same for the test images.
`--jobs` trains several runs in parallel, each with its share of the cores. Finished runs in WORK are not trained again.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import commit, describe_machine, run_module
from gancore import Catalog, Dataset, EvaluationPaths, ReferenceImages, read_images
from gancore.config.run import read_dataset
from gancore.data.items import read_items
from gancore.evaluation.features import FeatureExtractor
from gancore.evaluation.sources import reference_of
from gancore.evaluation.train_extractor import load_extractor
from gancore_plugins.extractors.classifier import ClassifierExtractor

SAMPLES = 1000
CLASSES = 10
REQUIRED = 0.97
"""Share of samples of every class that must be assigned to it."""


def main() -> None:
    arguments = parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(lambda seed: train(arguments, seed), range(arguments.seeds)))
    dataset = read_dataset("mnist", Catalog.installed())
    paths = EvaluationPaths(arguments.data_dir, arguments.cache or arguments.work / "cache", torch.device("cpu"))
    classifier = open_classifier(dataset, paths, ClassifierExtractor())
    accuracies = [
        [accuracy(classifier, sample(arguments, run, label), label) for label in range(CLASSES)] for run in runs
    ]
    commits = {run.with_suffix(".commit").read_text(encoding="utf-8") for run in runs}
    text = report(accuracies, real_accuracies(classifier, dataset, paths.root), arguments, commits)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="runs to train in parallel")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--cache", type=Path, help="folder for the classifier  [default: inside --work]")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and samples")
    parser.add_argument("--out", type=Path, required=True, help="file of the table")
    return parser.parse_args(arguments)


def train(arguments: argparse.Namespace, seed: int) -> Path:
    folder: Path = arguments.work / f"conditional-{seed}"
    ended = folder.with_suffix(".commit")
    if not ended.exists():
        print(f"seed {seed}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted benchmark
        where = ["--data-dir", arguments.data_dir, "--device", "cpu", "--out", folder, "-q"]
        run_module("gancore_cli", "train", "conditional", "--seed", seed, *where, jobs=arguments.jobs)
        ended.write_text(commit(), encoding="utf-8")
    return folder


def sample(arguments: argparse.Namespace, run: Path, label: int) -> Tensor:
    """Return samples of a class, drawn by the command line."""
    file = run.with_name(f"{run.name}-class-{label}.npy")
    options = ["--class", label, "-n", SAMPLES, "--seed", label, "--device", "cpu", "-q", "--out", file]
    run_module("gancore_cli", "sample", run, *options)
    return read_images(file)


def open_classifier(dataset: Dataset, paths: EvaluationPaths, extractor: ClassifierExtractor) -> FeatureExtractor:
    """Train a classifier of the dataset, or read it from the cache."""
    images = ReferenceImages.of(dataset, paths.root)
    shape = tuple(images.draw(1, 0, "shape").shape[1:])
    progress = load_extractor(extractor, dataset, shape, images.num_classes, paths)
    while True:
        try:
            next(progress)
        except StopIteration as done:
            reader: FeatureExtractor = done.value
            return reader


def accuracy(classifier: FeatureExtractor, images: Tensor, label: int) -> float:
    """Return the share of the images that the classifier assigns to this class."""
    return float(classifier.read(images).shares()[label])


def real_accuracies(classifier: FeatureExtractor, dataset: Dataset, root: Path) -> list[float]:
    """Return the accuracy on the held-out images of each class that has some."""
    images, labels = read_items(ReferenceImages.of(reference_of(dataset)[0], root).images)
    return [accuracy(classifier, images[labels == label], label) for label in sorted(set(labels.tolist()))]


def report(accuracies: list[list[float]], real: list[float], arguments: argparse.Namespace, commits: set[str]) -> str:
    passed = sum(min(row) >= REQUIRED for row in accuracies)
    lines = [
        "# Class accuracy of conditional runs",
        "",
        f"`python -m benchmarks.conditional --seeds {arguments.seeds} --jobs {arguments.jobs}`, with --data-dir, "
        f"--work and --out, at commit {', '.join(sorted(commits))}. {describe_machine(arguments.jobs)}",
        "",
        f"Percentage of {SAMPLES:,} samples of each class that the extractor `classifier` assigns to that class. "
        f"All classes at {REQUIRED:.0%} or more: {passed} of {len(accuracies)} seeds.",
        "",
        "| seed | " + " | ".join(map(str, range(CLASSES))) + " | lowest |",
        "| --- |" + " --- |" * (CLASSES + 1),
    ]
    rows = [("test images", real), *((str(seed), row) for seed, row in enumerate(accuracies))]
    for name, row in rows:
        lines.append(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in (*row, min(row))) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
