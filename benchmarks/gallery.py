"""Make the gallery: every recipe with samples, command, time, and a metric and the score of real data.

    python -m benchmarks.gallery --data-dir DATA --emoji EMOJI.zip --work WORK

Each command of the page is run with one thread, and its run kept in WORK/NAME. Runs in WORK are not repeated; all of
them take about two hours of one core. A run is measured by `gancore evaluate`, with the metric of its entry.
The pictures show the samples of seed 0, not selected. docs/gallery.md, docs/gallery/NAME.webp and
benchmarks/gallery.json are written.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from PIL import Image
from torch import Tensor

import gancore
from benchmarks.machine import ROOT, describe_machine, run_module
from gancore import Catalog
from gancore.sampling.grid import Layout, picture

SIDE = 8
POINTS = 2500
WIDTH = 530
"""The most pixels of a picture: those of 28 and 32 pixels a tile are enlarged twice."""
EMOJI, MOONS, WAVES = "EMOJI.zip", "moons.csv", "waves.npy"
"""Data that a command names; the first is published, the others are written by this program."""


@dataclass(frozen=True)
class Entry:
    """A recipe of the gallery: the command that was run, and when to use it."""

    recipe: str
    command: str
    use: str
    metric: str = "fd-classifier"


SHOWN = (
    Entry("digits", "digits", "To see that everything works, and to try losses and settings: a run takes seconds."),
    Entry("mnist", "mnist", "For digits of the best quality, and for gray pictures up to 32x32, 10,000 or more."),
    Entry("conditional", "conditional", "When you want to choose the class of a sample."),
    Entry(
        "fashion-mnist",
        "fashion-mnist --minutes 10",
        "For gray pictures with texture. The recipe trains for 2,000 kimg; this is a quarter of it.",
    ),
    Entry(
        "pictures",
        f"{EMOJI} --minutes 30",
        "For your own pictures. The path alone chooses this recipe, and rules set it up for their size and number.",
        "fd-random",
    ),
    Entry(
        "table",
        MOONS,
        "For tables of numbers. Here it is two columns, the coordinates of two half circles.",
        "fd-random",
    ),
    Entry(
        "arrays",
        WAVES,
        "For series, vectors and volumes. Here it is sine waves of random frequency and phase.",
        "fd-random",
    ),
    Entry("ring", "ring", "To watch modes: a collapse is seen at once. Gray is real data, red are samples.", "modes"),
    Entry("grid", "grid", "The same with 25 modes, which is harder.", "modes"),
    Entry("dcgan", "dcgan", "To compare with DCGAN (Radford et al. 2016, arXiv:1511.06434)."),
    Entry("lsgan", "lsgan", "To compare with least squares (Mao et al. 2017, arXiv:1611.04076)."),
    Entry(
        "wgan-gp",
        "wgan-gp --minutes 15",
        "To compare with WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028). The recipe trains for 50 epochs; this is a "
        "third of them.",
    ),
    Entry("vanilla", "vanilla", "The classic script, as a baseline: most other recipes beat it in less time."),
)
FOR_GPUS = (
    Entry("cifar10", "cifar10", "Photographs of a chosen class, for one GPU."),
    Entry("sngan", "sngan", "To compare with SNGAN (Miyato et al. 2018, arXiv:1802.05957)."),
    Entry("r3gan", "r3gan", "A strong modern baseline (Huang et al. 2024, arXiv:2501.05441); days on GPUs."),
    Entry("stacked-mnist", "stacked-mnist", "To count a thousand modes."),
)


@dataclass(frozen=True)
class Shown:
    """What was measured of a run."""

    recipe: str
    command: str
    kimg: float
    seconds: float
    metric: str
    value: float
    real_data: float
    width: int
    height: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of MNIST and Fashion-MNIST")
    parser.add_argument("--emoji", type=Path, required=True, help="archive of emoji, in a folder for each class")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    write_data(arguments.work)
    pictures = ROOT / "docs" / "gallery"
    pictures.mkdir(exist_ok=True)
    shown = []
    for entry in SHOWN:
        print(entry.recipe, flush=True)
        run = trained(entry, arguments.work, arguments.data_dir, arguments.emoji)
        drawn = picture_of(run)
        drawn.save(pictures / f"{entry.recipe}.webp", quality=80, method=6)
        shown.append(measured(entry, run, arguments.data_dir, drawn.size))
    made = sorted({commit_of(arguments.work / entry.recipe) for entry in SHOWN})
    about = f"at commit {', '.join(made)}, each with one thread. {describe_machine()}"
    record = {"machine": about, "runs": [asdict(each) for each in shown]}
    (ROOT / "benchmarks" / "gallery.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (ROOT / "docs" / "gallery.md").write_text(page(shown, about), encoding="utf-8")


def write_data(work: Path) -> None:
    """Write the moons, a table of points (x, y), and the waves, (N, 1, 64)."""
    rng = np.random.default_rng(0)
    angle, lower = rng.uniform(0, np.pi, 5000), rng.integers(0, 2, 5000)
    moons = np.stack([np.cos(angle) * (1 - 2 * lower) + lower, np.sin(angle) * (1 - 2 * lower) + lower / 2], axis=1)
    moons += rng.normal(scale=0.05, size=moons.shape)
    np.savetxt(work / MOONS, moons, delimiter=",", header="x,y", comments="", fmt="%.5f")
    times = np.linspace(0, 2 * np.pi, 64)
    frequency, phase = rng.uniform(1, 3, (5000, 1)), rng.uniform(0, 2 * np.pi, (5000, 1))
    np.save(work / WAVES, np.sin(frequency * times + phase)[:, None].astype(np.float32))


def trained(entry: Entry, work: Path, data: Path, emoji: Path) -> Path:
    """Return the run of an entry, which is trained if it is not there yet."""
    run = work / entry.recipe
    if not run.exists():
        begun = work / f"{entry.recipe}-begun"
        shutil.rmtree(begun, ignore_errors=True)  # of an interrupted call
        places = {EMOJI: emoji, MOONS: work / MOONS, WAVES: work / WAVES}
        words = [places.get(word, word) for word in entry.command.split()]
        run_module("gancore_cli", "train", *words, "--threads", 1, "--data-dir", data, "--out", begun, "-q")
        begun.rename(run)
    return run


def measured(entry: Entry, run: Path, data: Path, size: tuple[int, int]) -> Shown:
    """Return the numbers of a run: the last line of its log, and its metric."""
    last = gancore.open(run).metrics[-1]
    options = ["--metric", entry.metric, "--data-dir", data, "--json", "-q"]
    document = json.loads(run_module("gancore_cli", "evaluate", run, *options))
    name, metric = entry.metric, document["metrics"][entry.metric]
    if name == "modes":
        name, metric = "modes.high_quality", metric["details"]["high_quality"]
    return Shown(
        entry.recipe, entry.command, last["kimg"], last["seconds"], name, metric["value"], metric["real_data"], *size
    )


def commit_of(run: Path) -> str:
    """Return the commit that trained a run."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return str(manifest["git_commit"])[:7]


def picture_of(run: Path) -> Image.Image:
    """Return 64 samples of a run, or for points those over as many real ones."""
    generator = gancore.load(run, device="cpu")
    if len(generator.shape) == 1:
        drawn = picture(generator.sample(POINTS, seed=0), real_points(run))
    else:
        drawn = picture(generator.sample(SIDE * SIDE, seed=0), layout=Layout((SIDE, SIDE), upscale=1))
        factor = max(1, WIDTH // drawn.width)
        drawn = drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)
    return drawn.convert("RGB")


def real_points(run: Path) -> Tensor:
    """Return real points of the run's dataset, in the units of its samples."""
    config = gancore.open(run).config
    return gancore.ReferenceImages.of(config.dataset, Path()).draw(POINTS, 0, "all")


def page(shown: Sequence[Shown], about: str) -> str:
    """Return the text of gallery.md."""
    summaries = {recipe.name: recipe.summary for recipe, _ in Catalog.installed().recipes()}
    uses = {entry.recipe: entry.use for entry in SHOWN}
    parts = [
        "# Gallery",
        "Every recipe that trains without a GPU: one run on one core, and the samples of seed 0, not selected. Next to "
        "each value is the score of real data.",
        "\n".join(
            ["| recipe | time | metric | value | real data |", "| --- | --- | --- | --- | --- |", *map(row, shown)]
        ),
        "The distances `fd-…` are better if they are low, `modes.high_quality` if it is high; "
        "[Evaluation](evaluation.md) has their meaning. Values of different data cannot be compared. Where data has no "
        "test part, the score of real data is that of one half compared with the other; with half as many items it is "
        "a little worse than that of a perfect model. Here `fd-classifier` is of one classifier, in the tables of "
        "MNIST in `benchmarks/` the mean of three, so the same run has slightly different values. "
        "[Recipes](recipes.md#what-they-reach) has tables with baselines and several seeds.",
    ]
    for each in shown:
        score = f"{each.metric} {each.value:.3g}, of real data {each.real_data:.3g}"
        images = f"{each.kimg:.0f} thousand" if each.kimg < 1000 else f"{each.kimg / 1000:.3g} million"
        parts += [
            f"## {each.recipe}",
            summaries[each.recipe],
            f"```text\ngancore train {each.command}\n```",
            f"![Samples of the recipe {each.recipe} after {in_words(each.seconds)}](gallery/{each.recipe}.webp)",
            f"{uses[each.recipe]} This run took {in_words(each.seconds)} for {images} images: {score}.",
        ]
    parts += [
        "## For a GPU",
        "These recipes were not trained to their end, since no GPU was at hand:",
        "\n".join(["| recipe | use |", "| --- | --- |", *(f"| `{each.recipe}` | {each.use} |" for each in FOR_GPUS)]),
        "## How this page is made",
        "`python -m benchmarks.gallery` trains what is missing, measures and draws it, and writes this page. The runs "
        f"were trained {about}",
    ]
    return "\n\n".join(part if part.startswith(("|", "```", "!")) else fill(part, 120) for part in parts) + "\n"


def row(shown: Shown) -> str:
    """Return a run as a row of the table."""
    score = f"{shown.metric} | {shown.value:.3g} | {shown.real_data:.3g}"
    return f"| [`{shown.recipe}`](#{shown.recipe}) | {in_words(shown.seconds)} | {score} |"


def in_words(seconds: float) -> str:
    """Return 26 seconds, or 8:12 minutes."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} minutes" if minutes else f"{rest} seconds"


if __name__ == "__main__":
    main()
