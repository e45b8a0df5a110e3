"""Pictures at equal time: recipes, and the scripts that most people train first, with the same threads for each.

    python -m benchmarks.pictures fashion-mnist --minutes 10 --seeds 5 --jobs 2 --data-dir DATA --work WORK --out OUT
    python -m benchmarks.pictures emoji.zip --size 32 --minutes 30 --seeds 3 --jobs 2 --work WORK --out OUT

The data is `fashion-mnist`, or a folder or archive of pictures with a folder for each class. An arm is a recipe or a
TOML file; `plain`, the MLP of benchmarks/plain.py; `dcgan-loop`, that of PyTorch's tutorial; or `dcgan-loop-augmented`,
the same with DiffAugment. The scripts train on the pixels that the recipes see. Each arm draws 10,000 samples.

Samples are compared with the test images of Fashion-MNIST, and with all pictures of other data. The row of real data is
that of training images in place of samples, or of one half of the pictures compared with the other. Three classifiers
learn the classes: of other data than Fashion-MNIST from nine tenths of the pictures, and the table has their accuracy
on the last tenth. `--jobs` trains several runs in parallel, each with its share of the cores. Finished runs in WORK are
not repeated. OUT.md is the table, OUT.json has all results, OUT.png samples of each arm, OUT-nearest.png those that are
nearest to training images.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks import conditional
from benchmarks.machine import commit, describe_machine, grouped, run_module, threads_per_job, write_report
from benchmarks.quality import (
    CLASSIFIERS,
    REAL,
    SAMPLES,
    Result,
    cost,
    metrics_of,
    prepare,
    run,
    samples_of,
    spread,
    train,
    values,
    with_mean,
)
from gancore import (
    Catalog,
    Dataset,
    EvaluationPaths,
    Evaluator,
    ReferenceImages,
    SampleOrigin,
    load,
    read_images,
    save_samples,
)
from gancore.config.from_path import dataset_for
from gancore.config.run import read_dataset, read_layers
from gancore.evaluation.features import FeatureExtractor
from gancore.evaluation.sources import reference_of
from gancore.sampling.grid import Layout, grid
from gancore_plugins.extractors.classifier import ClassifierExtractor

FASHION = "fashion-mnist"
PLAIN, LOOP, AUGMENTED = SCRIPTS = ("plain", "dcgan-loop", "dcgan-loop-augmented")
ARMS = {FASHION: (FASHION, "benchmarks/fashion-conditional.toml", PLAIN, LOOP)}
ARMS_OF_PICTURES = ("pictures", LOOP, AUGMENTED)
COLUMNS = (
    "fd-classifier",
    "fd-random",
    "precision-classifier",
    "recall-classifier",
    "density-classifier",
    "coverage-classifier",
    "precision-random",
    "coverage-random",
    "class-kl-classifier",
)
DISTANCES = COLUMNS[:2]
READ, LOWEST = "read as its class", "lowest of a class"
"""Shares of the samples of a conditional run that a classifier assigns to the class they were drawn for."""
EPOCHS = 30
"""Passes of the classifiers over other data than Fashion-MNIST, which has fewer images."""
HOLDOUT = 0.1
"""Share of the pictures that the classifiers do not see."""
_SIDE, _PANELS_PER_ROW, _TITLE = 8, 3, 22
_NEAREST, _SEARCHED = 3, 1000


@dataclass(frozen=True)
class Data:
    """What all arms train on, and what their samples are compared with."""

    dataset: Dataset
    teacher: Dataset
    """What the classifiers learn; its held-out part shows how well they do."""
    options: tuple[str, ...]
    """Those of `gancore train` for this dataset."""


def main() -> None:
    arguments = parse()
    data = open_data(arguments)
    training = ReferenceImages.of(data.dataset, arguments.data_dir)
    images = training.draw(len(training), 0, "all")
    arguments.work /= "-".join([data.dataset.name, "x".join(map(str, images.shape[1:]))])
    arguments.work.mkdir(parents=True, exist_ok=True)
    np.save(arguments.work / "images.npy", images.numpy())
    if PLAIN in arguments.arms:
        unpack(arguments)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        pairs = [(arm, seed) for seed in range(arguments.seeds) for arm in arguments.arms]
        trained = list(pool.map(lambda pair: train_arm(arguments, data, training, *pair), pairs))
    accuracies, results = measure(trained, arguments, data, training)
    write_report(arguments.out, report(results, arguments, accuracies), results)
    arms = {arm: read_images(samples_of(arguments, timed(arguments, arm), 0)) for arm in arguments.arms}
    panels = {name: tiled(shown[: _SIDE * _SIDE]) for name, shown in {REAL: spaced(images), **arms}.items()}
    combined(panels).save(arguments.out.with_suffix(".png"))
    near = {name: tiled(nearest(shown[:_SEARCHED], images)) for name, shown in arms.items()}
    combined(near).save(arguments.out.with_name(f"{arguments.out.name}-nearest.png"))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("data", help=f"{FASHION}, or a folder or archive of pictures with a folder for each class")
    parser.add_argument("--size", type=int, help="side to which pictures are reduced  [default: 32]")
    parser.add_argument("--arms", nargs="+", help="recipes, TOML files and scripts  [default: those for the data]")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of training of each run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="runs to train in parallel")
    parser.add_argument("--data-dir", type=Path, help="folder that holds FashionMNIST/raw  [default: inside --work]")
    parser.add_argument("--cache", type=Path, help="folder for the classifiers  [default: inside --work]")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and samples")
    parser.add_argument("--out", type=Path, required=True, help="OUT.md, OUT.json, OUT.png and OUT-nearest.png")
    parsed = parser.parse_args(arguments)
    is_fashion = parsed.data == FASHION
    parsed.arms = parsed.arms or list(ARMS.get(parsed.data, ARMS_OF_PICTURES))
    parsed.cache = parsed.cache or parsed.work / "cache"
    if PLAIN in parsed.arms and not is_fashion:
        parser.error(f"{PLAIN} trains on published files of 28x28, not on {parsed.data}")
    if is_fashion and (parsed.size or parsed.data_dir is None):
        parser.error(f"{FASHION} needs --data-dir and has no --size")
    for arm in set(parsed.arms) - set(SCRIPTS):
        read_layers(arm, Catalog.installed())
    parsed.size = None if is_fashion else parsed.size or 32
    parsed.data_dir = parsed.data_dir or parsed.work / "data"
    return parsed


def open_data(arguments: argparse.Namespace) -> Data:
    if arguments.data == FASHION:
        dataset = read_dataset(FASHION, Catalog.installed())
        return Data(dataset, dataset, ())
    dataset = dataset_for(arguments.data).model_copy(update={"size": arguments.size, "classes": True})
    options = ("--dataset", arguments.data, "--set=dataset.classes=true", f"--set=dataset.size={arguments.size}")
    for _ in dataset.prepare(arguments.data_dir):
        pass
    return Data(dataset, dataset.model_copy(update={"holdout": HOLDOUT}), options)


def unpack(arguments: argparse.Namespace) -> None:
    """Write the published files without compression, as torchvision reads them, to WORK."""
    for packed in (arguments.data_dir / "FashionMNIST" / "raw").iterdir():
        unpacked = arguments.work / "FashionMNIST" / "raw" / packed.name.removesuffix(".gz")
        unpacked.parent.mkdir(parents=True, exist_ok=True)
        content = packed.read_bytes()
        unpacked.write_bytes(gzip.decompress(content) if packed.suffix == ".gz" else content)


def timed(arguments: argparse.Namespace, arm: str) -> str:
    """Return the name of an arm with its duration, by which WORK has its runs."""
    return f"{arm}={arguments.minutes:g} minutes"


def train_arm(arguments: argparse.Namespace, data: Data, training: ReferenceImages, arm: str, seed: int) -> Result:
    """Train, unless WORK has the record of this arm, seed and duration."""
    if arm in SCRIPTS:
        make = partial(train_script, arguments, arm, seed)
    else:
        make = partial(train_recipe, arguments, data.options, training, arm, seed)
    return train(arguments, timed(arguments, arm), seed, make)


def train_recipe(  # the last one is for each run
    arguments: argparse.Namespace, options: Sequence[str], training: ReferenceImages, arm: str, seed: int, out: Path
) -> dict[str, object]:
    """Train a recipe, and draw samples of classes that are as frequent as those of the training images."""
    took = run(arguments, arm, f"--minutes={arguments.minutes:g}", seed, out, options)
    if took["finite"] and is_conditional(folder := out.with_suffix("")):
        conditions = training.draw_conditions(SAMPLES, seed, "benchmark")
        save_samples(load(folder, device="cpu").stream(SAMPLES, seed, conditions=conditions), out)
    return took


def train_script(arguments: argparse.Namespace, arm: str, seed: int, out: Path) -> dict[str, object]:
    command: list[object] = ["--minutes", arguments.minutes, "--seed", seed, "--samples", SAMPLES, "--out", out]
    if arm == PLAIN:
        command += ["--dataset", "FashionMNIST", "--data-dir", arguments.work, "--epochs", 10**9]
        module = "benchmarks.plain"
    else:
        command += ["--data", arguments.work / "images.npy", "--threads", threads_per_job(arguments.jobs)]
        command += ["--diffaugment"] * (arm == AUGMENTED)
        module = "benchmarks.dcgan_loop"
    took: dict[str, object] = json.loads(run_module(module, *command, jobs=arguments.jobs))
    return took


def measure(
    trained: list[Result], arguments: argparse.Namespace, data: Data, training: ReferenceImages
) -> tuple[list[float], list[Result]]:
    """Return the accuracies of the classifiers, and the results with their metrics, those of real data first."""
    reference, held_out = reference_of(data.dataset)
    origin = SampleOrigin(training, held_out=held_out, dataset=data.teacher)
    paths = EvaluationPaths(arguments.data_dir, arguments.cache, torch.device("cpu"))
    real = ReferenceImages.of(reference, arguments.data_dir)
    extractor = ClassifierExtractor() if arguments.data == FASHION else ClassifierExtractor(epochs=EPOCHS)
    names = [name for name in COLUMNS if name != "fd-classifier"]
    metrics = metrics_of(names, Catalog.installed(), extractor.epochs)
    evaluator = Evaluator(metrics, paths, real, origin, count=min(SAMPLES, len(real)))
    prepare(evaluator)
    classifier = conditional.open_classifier(data.teacher, paths, extractor)
    results, accuracies, of_real = list[Result](), list[float](), dict[str, float]()
    for result in trained:
        numbers: dict[str, float] = {}
        if result.finite:
            file = samples_of(arguments, result.arm, result.seed)
            evaluation = evaluator.evaluate(read_images(file)[: evaluator.count])
            numbers = with_mean(evaluation.numbers())
            of_real = with_mean({each.name: each.real_data.value for each in evaluation.results if each.real_data})
            about = [each.about["extractor"] for each in evaluation.results if each.name.startswith("fd-classifier-")]
            accuracies = [each["accuracy"] for each in about if isinstance(each, dict) and each["accuracy"] is not None]
            if is_conditional(folder := file.with_suffix("")):
                numbers |= read_as_drawn(list(read_classes(arguments, folder, classifier, training.num_classes or 0)))
        results.append(Result(**vars(result) | {"numbers": numbers, "arm": result.arm.partition("=")[0]}))
    of_real |= read_as_drawn(conditional.real_accuracies(classifier, data.teacher, arguments.data_dir))
    return accuracies, [Result(REAL, 0, 0, 0, 0, True, commit(), of_real), *results]


def is_conditional(folder: Path) -> bool:
    config = folder / "config.toml"  # missing for a script
    return config.exists() and bool(tomllib.loads(config.read_text(encoding="utf-8"))["training"]["conditional"])


def read_classes(
    arguments: argparse.Namespace, folder: Path, classifier: FeatureExtractor, classes: int
) -> Iterator[float]:
    """Yield, for each class, the share of its samples that the classifier assigns to it."""
    for label in range(classes):
        yield conditional.accuracy(classifier, conditional.sample(arguments, folder, label), label)


def read_as_drawn(shares: list[float]) -> dict[str, float]:
    return {READ: fmean(shares), LOWEST: min(shares)}


def report(results: list[Result], arguments: argparse.Namespace, accuracies: list[float]) -> str:
    of = grouped(results, lambda result: result.arm)
    scripts = [arm for arm in of if arm in SCRIPTS]
    best = {name: min((median(values(of[arm], name)) for arm in scripts), default=None) for name in DISTANCES}
    size = f" --size {arguments.size}" if arguments.size else ""
    compared = "all test images" if arguments.data == FASHION else "all pictures"
    columns = [*COLUMNS, READ, LOWEST]
    lines = [
        f"# Pictures at equal time: {Path(arguments.data).name}",
        "",
        f"`python -m benchmarks.pictures {Path(arguments.data).name}{size} --arms {' '.join(arguments.arms)} --minutes "
        f"{arguments.minutes:g} --seeds {arguments.seeds} --jobs {arguments.jobs}`, with --data-dir, --work and --out, "
        f"at commit {', '.join(sorted({result.commit for result in results}))}. {describe_machine(arguments.jobs)}",
        "",
        f"Every run has {arguments.minutes:g} minutes of training. Up to {SAMPLES:,} samples against {compared}; "
        f"fd-classifier is the mean of {CLASSIFIERS} classifiers, which read "
        f"{', '.join(f'{accuracy:.1%}' for accuracy in accuracies)} of the held-out images correctly. Medians over the "
        "seeds, lowest and highest in brackets. Ratio: of the medians, to the best script. "
        f"{READ.capitalize()}: the share of {conditional.SAMPLES:,} samples of each class that the first classifier "
        "assigns to it, for conditional runs; of real data: of held-out images.",
        "",
        f"![Samples of the first seed of each arm]({arguments.out.name}.png)",
        "",
        f"The {_SIDE} of {_SEARCHED:,} samples that are nearest to training images, by pixels, above the {_NEAREST} "
        "images that are nearest to each:",
        "",
        f"![Samples above their nearest training images]({arguments.out.name}-nearest.png)",
        "",
        f"| arm | {' | '.join(columns)} | {' | '.join(f'ratio of {name}' for name in DISTANCES)} "
        "| finite | seconds | threads | kimg |",
        "| --- |" + " --- |" * (len(columns) + len(DISTANCES) + 4),
    ]
    for arm in of:
        ratios = [ratio(values(of[arm], name), best[name]) if arm != REAL else "" for name in DISTANCES]
        cells = [cell(of[arm], name) for name in columns] + ratios
        finite = f"{sum(result.finite for result in of[arm])} of {len(of[arm])}"
        lines.append(f"| {arm} | {' | '.join([*cells, finite, *cost(of[arm])])} |")
    lines += ["", "All results:", "", f"| arm | seed | {' | '.join(columns)} | seconds | kimg |"]
    lines.append("| --- | --- |" + " --- |" * (len(columns) + 2))
    for result in results:
        cells = [f"{result.numbers[name]:.4g}" if name in result.numbers else "" for name in columns]
        cells += [f"{result.seconds:.0f}", f"{result.images / 1000:,.0f}"] if result.arm != REAL else ["", ""]
        lines.append(f"| {result.arm} | {result.seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(results: list[Result], name: str) -> str:
    """Return median and range of a metric, empty if no run of the arm has it."""
    numbers = [result.numbers[name] for result in results if name in result.numbers]
    if not numbers:
        return ""
    return f"{numbers[0]:.4g}" if len(numbers) == 1 else spread(numbers)


def ratio(numbers: list[float], best: float | None) -> str:
    return "" if best is None else f"{median(numbers) / best:.2f}"


def spaced(images: Tensor) -> Tensor:
    """Return evenly spaced images, since those of a class may follow each other."""
    return images[torch.linspace(0, len(images) - 1, _SIDE * _SIDE).long()]


def nearest(samples: Tensor, images: Tensor) -> Tensor:
    """Return the samples that are nearest to images by pixels, and below them the images nearest to each."""
    flat_samples, flat_images = (each.flatten(1).float() for each in (samples, images))
    found = torch.cdist(flat_samples, flat_images).topk(_NEAREST, largest=False)
    order = found.values[:, 0].argsort()[:_SIDE]
    return torch.cat([samples[order], *(images[found.indices[order, place]] for place in range(_NEAREST))])


def tiled(images: Tensor) -> Image.Image:
    return grid(images, Layout((len(images) // _SIDE, _SIDE))).convert("RGB")


def combined(panels: dict[str, Image.Image]) -> Image.Image:
    """Return panels of one size with their titles, three in a row."""
    first = next(iter(panels.values()))
    width, height = first.width + _TITLE // 2, first.height + _TITLE
    columns = min(len(panels), _PANELS_PER_ROW)
    sheet = Image.new("RGB", (columns * width, -(-len(panels) // columns) * height), "#ffffff")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TITLE * 0.7)
    for number, (title, panel) in enumerate(panels.items()):
        corner = number % columns * width, number // columns * height
        pen.text((corner[0], corner[1] + 2), title.removeprefix("benchmarks/"), "#1f2933", font)
        sheet.paste(panel, (corner[0], corner[1] + _TITLE))
    return sheet


if __name__ == "__main__":
    main()
