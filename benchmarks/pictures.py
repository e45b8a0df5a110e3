"""Pictures at equal time: recipes, and the scripts that most people train first, with the same threads for each.

    python -m benchmarks.pictures fashion-mnist --minutes 10 --seeds 5 --jobs 2 --data-dir DATA --work WORK --out OUT
    python -m benchmarks.pictures emoji.zip --size 32 --minutes 30 --seeds 3 --data-dir DATA --work WORK --out OUT

The data is `fashion-mnist`, or a folder or archive of pictures with a folder for each class. An arm is a recipe or a
TOML file, or a script of benchmarks/scripts.py. The scripts train on the pixels that the recipes see. Samples are
compared with the test images of Fashion-MNIST, and with all pictures of other data. The first arm of the table, which
the others are compared with, is the script with the lowest distance.

`--jobs` trains several runs in parallel, each with its share of the cores. Finished runs in WORK are not repeated.
OUT.md is the table, OUT.json has all results, OUT.png samples of each arm, OUT-nearest.png those that are nearest to
training images.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.compare import REAL, add_places, combined, markdown, outcomes_of, trained, write
from benchmarks.machine import run_module
from benchmarks.scripts import (
    AUGMENTED,
    LOOP,
    PLAIN,
    SAMPLES,
    SCRIPTS,
    Place,
    outcomes_of_script,
    samples_of,
    training_images,
)
from gancore import Catalog, ReferenceImages, Study, load, read_images
from gancore.config.from_path import dataset_for
from gancore.config.run import read_layers
from gancore.sampling.grid import Layout, grid
from gancore.study.results import Outcome

FASHION = "fashion-mnist"
ARMS = {FASHION: (FASHION, "benchmarks/fashion-conditional.toml", PLAIN, LOOP)}
ARMS_OF_PICTURES = ("pictures", LOOP, AUGMENTED)
METRIC = "fd-classifier"
METRICS = (
    METRIC,
    "fd-random",
    "precision-classifier",
    "recall-classifier",
    "coverage-classifier",
    "precision-random",
    "coverage-random",
    "class-kl-classifier",
)
AGREEMENT = "class-agreement-classifier"
"""Of conditional arms: the share of samples that the classifier reads as the class they are drawn for."""
EPOCHS = 12
"""Passes of the classifier over other data than Fashion-MNIST, which has fewer images."""
_SIDE, _PANELS_PER_ROW, _TITLE = 8, 3, 22
_NEAREST, _SEARCHED = 3, 1000


def main() -> None:
    arguments = parse()
    place = Place(arguments.data_dir, arguments.work, arguments.jobs)
    study = trained(place, name_of(arguments), fields(arguments))
    scripts = [outcomes_of_script(place, arm, study) for arm in arguments.arms if arm in SCRIPTS]
    scripts.sort(key=lambda runs: median(run.value(METRIC) for run in runs))
    first = next(arm for arm in arguments.arms if arm not in SCRIPTS)
    own = outcomes_of(study, Path(first).stem)
    report = combined([*(run for runs in scripts for run in runs), *own], study)
    command = f"benchmarks.pictures {Path(arguments.data).name}" + (
        f" --size {arguments.size}" if arguments.size else ""
    )
    command += f" --arms {' '.join(arguments.arms)} --minutes {arguments.minutes:g} --seeds {arguments.seeds}"
    write(
        arguments.out,
        report,
        place,
        f"{command} --jobs {place.jobs}",
        [*notes(arguments.out), *agreements(place, study, own)],
    )
    training = training_images(study)
    shown = {arm: samples_of_run(study, runs[0], training) for arm, runs in report.arms.items() if arm not in SCRIPTS}
    shown |= {arm: read_images(samples_of(place, arm, study, 0)) for arm in arguments.arms if arm in SCRIPTS}
    images = training.draw(len(training), 0, "all")
    first_ones = {name: each[: _SIDE * _SIDE] for name, each in shown.items()}
    sheet({REAL: spaced(images), **first_ones}).save(arguments.out.with_suffix(".png"))
    near = {name: nearest(each[:_SEARCHED], images) for name, each in shown.items()}
    sheet(near).save(arguments.out.with_name(f"{arguments.out.name}-nearest.png"))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("data", help=f"{FASHION}, or a folder or archive of pictures with a folder for each class")
    parser.add_argument("--size", type=int, help="side to which pictures are reduced  [default: 32]")
    parser.add_argument("--arms", nargs="+", help="recipes, TOML files and scripts  [default: those for the data]")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of training of each run")
    parser.add_argument("--seeds", type=int, default=5)
    add_places(parser)
    parsed = parser.parse_args(arguments)
    parsed.arms = parsed.arms or list(ARMS.get(parsed.data, ARMS_OF_PICTURES))
    if PLAIN in parsed.arms and parsed.data != FASHION:
        parser.error(f"{PLAIN} trains on published files of 28x28, not on {parsed.data}")
    if parsed.data == FASHION and parsed.size:
        parser.error(f"{FASHION} has no --size")
    if not (recipes := set(parsed.arms) - set(SCRIPTS)):
        parser.error("an arm must be a recipe or a TOML file")
    for arm in recipes:
        read_layers(arm, Catalog.installed())
    parsed.size = None if parsed.data == FASHION else parsed.size or 32
    return parsed


def name_of(arguments: argparse.Namespace) -> str:
    """Return the name of the study: runs of other data, sizes, durations or recipes are other runs."""
    arms = [Path(arm).stem for arm in arguments.arms if arm not in SCRIPTS]
    size = [f"{arguments.size}"] if arguments.size else []
    return "-".join([Path(arguments.data).stem, *size, f"{arguments.minutes:g}-minutes", *arms])


def fields(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the study of the arms that are recipes or files."""
    data, count = dataset_of(arguments)
    first, *others = (arm for arm in arguments.arms if arm not in SCRIPTS)
    classifier = {} if arguments.data == FASHION else {"extractor": {"epochs": EPOCHS}}
    metrics = {name: classifier if name.endswith("-classifier") else {} for name in METRICS}
    return {
        "base": keys_of(first) | {"dataset": data},
        "variants": {Path(arm).stem: keys_of(arm) | {"dataset": data} for arm in others},
        "budget": f"{arguments.minutes:g} minutes",
        "seeds": arguments.seeds,
        "metric": METRIC,
        "metrics": metrics,
        "samples": min(SAMPLES, count),
    }


def dataset_of(arguments: argparse.Namespace) -> tuple[dict[str, object], int]:
    """Return the table of the dataset, and the number of its images."""
    if arguments.data == FASHION:
        return {"name": FASHION}, SAMPLES
    dataset = dataset_for(arguments.data).model_copy(update={"size": arguments.size, "classes": True})
    for _ in dataset.prepare(arguments.data_dir):
        pass
    table = dataset.model_dump(mode="json", include={"path", "size", "classes"})
    return {"name": dataset.name, **table}, len(ReferenceImages.of(dataset, arguments.data_dir))


def keys_of(arm: str) -> dict[str, object]:
    """Return the config keys of a recipe or a TOML file, without its duration, which is that of all arms."""
    keys: dict[str, object] = {"recipe": arm}
    if arm.endswith(".toml"):
        keys = tomllib.loads(Path(arm).read_text(encoding="utf-8"))
    keys.pop("duration", None)
    return keys


def notes(out: Path) -> list[str]:
    return [
        "",
        f"![Samples of the first seed of each arm]({out.name}.png)",
        "",
        f"The {_SIDE} of {_SEARCHED:,} samples that are nearest to training images, by pixels, above the {_NEAREST} "
        "images that are nearest to each:",
        "",
        f"![Samples above their nearest training images]({out.name}-nearest.png)",
    ]


def agreements(place: Place, study: Study, runs: Sequence[Outcome]) -> list[str]:
    """Return a table of the conditional runs: how many samples the classifier reads as the class they are drawn for."""
    lines = [["run", AGREEMENT, "lowest of a class", "of real data", "lowest of a class"]]
    for run in runs:
        folder = folder_of(study, run)
        if load(folder, device="cpu").spec.condition is None:
            continue
        options = ["--metric", AGREEMENT, "--data-dir", place.data_dir, "--device", "cpu", "--json", "-q"]
        found = json.loads(run_module("gancore_cli", "evaluate", folder, *options))["metrics"][AGREEMENT]
        lowest = found["details"]["lowest"]
        numbers = found["value"], lowest["value"], found["real_data"], lowest["real_data"]
        lines.append([run.name, *(f"{number:.1%}" for number in numbers)])
    return ["", *markdown(lines)] if len(lines) > 1 else []


def folder_of(study: Study, run: Outcome) -> Path:
    return study.path / "runs" / run.name.partition("/")[2]


def samples_of_run(study: Study, run: Outcome, training: ReferenceImages) -> Tensor:
    """Return samples of a run, of classes that are as frequent as in the data."""
    generator = load(folder_of(study, run), device="cpu")
    conditions = None if generator.spec.condition is None else training.draw_conditions(_SEARCHED, 0, "shown")
    return generator.sample(_SEARCHED, seed=0, conditions=conditions)


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


def sheet(shown: Mapping[str, Tensor]) -> Image.Image:
    """Return images of several arms (N, C, H, W) as panels with titles, three in a row."""
    panels = {name: tiled(images) for name, images in shown.items()}
    first = next(iter(panels.values()))
    width, height = first.width + _TITLE // 2, first.height + _TITLE
    columns = min(len(panels), _PANELS_PER_ROW)
    sheet = Image.new("RGB", (columns * width, -(-len(panels) // columns) * height), "#ffffff")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TITLE * 0.7)
    for number, (title, panel) in enumerate(panels.items()):
        corner = number % columns * width, number // columns * height
        pen.text((corner[0], corner[1] + 2), title, "#1f2933", font)
        sheet.paste(panel, (corner[0], corner[1] + _TITLE))
    return sheet


if __name__ == "__main__":
    main()
