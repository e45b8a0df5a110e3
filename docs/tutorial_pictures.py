"""Draw first-gan.png, collapse.png and losses.png, the pictures of two tutorials, from the runs of their commands.

The pages first-gan.md and collapse.md have the commands; the first run also needs --set sample.every_kimg=6.4.

    python docs/tutorial_pictures.py runs/first runs/collapsed runs/cured
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

import gancore

DOCS = Path(__file__).parent
INK, TITLE, GAP = "#1f2933", 24, 8
G, D = "#1f6fb4", "#c8511b"


def main() -> None:
    first, collapsed, cured = map(Path, sys.argv[1:])
    shown = [(f"step {step:,}", picture(first, step)) for step in (0, 100, 1000, 5003)]
    real = Image.open(first / "samples" / "real.png").convert("RGB")
    rows([[*shown, ("real digits", real)]], 232).save(DOCS / "first-gan.png")
    steps = (0, 300, 600, 900, 1500)
    named = {"without R1": collapsed, "with R1": cured}
    taken = [[(f"{name}, step {step:,}", picture(run, step)) for step in steps] for name, run in named.items()]
    rows(taken, 216).save(DOCS / "collapse.png")
    losses({"digits": first, "ring, collapsed": collapsed, "ring with R1": cured}).savefig(DOCS / "losses.png", dpi=110)


def picture(run: Path, step: int) -> Image.Image:
    """Return the picture of the samples that is nearest to a step."""
    files = {int(path.stem.removeprefix("step-")): path for path in (run / "samples").glob("step-*.png")}
    return Image.open(files[min(files, key=lambda drawn: abs(drawn - step))]).convert("RGB")


def rows(panels: Sequence[Sequence[tuple[str, Image.Image]]], side: int) -> Image.Image:
    """Return rows of pictures with a title above each."""
    columns = max(map(len, panels))
    made = Image.new("RGB", (columns * (side + GAP) - GAP, len(panels) * (side + TITLE + GAP) - GAP), "#ffffff")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(14)
    for row, shown in enumerate(panels):
        for column, (title, image) in enumerate(shown):
            left, top = column * (side + GAP), row * (side + TITLE + GAP)
            pen.text((left, top + TITLE // 2), title, INK, font, anchor="lm")
            made.paste(image.resize((side, side), Image.Resampling.LANCZOS), (left, top + TITLE))
    return made


def losses(runs: dict[str, Path]) -> Figure:
    """Return the losses of both players over the steps of each run."""
    with mpl.rc_context({"font.size": 10, "axes.edgecolor": "#9aa5b1", "text.color": INK}):
        figure = Figure((10.4, 3.0), layout="constrained")
        axes = figure.subplots(1, len(runs), sharey=True)
        for place, (name, run) in zip(axes, runs.items(), strict=True):
            lines = [line for line in gancore.open(run).metrics if "discriminator_loss" in line]
            steps = [line["step"] for line in lines]
            for player, color in (("discriminator", D), ("generator", G)):
                place.plot(steps, [line[f"{player}_loss"] for line in lines], color=color, label=player)
            for level in (2 * math.log(2), math.log(2)):
                place.axhline(level, color="#9aa5b1", linewidth=1, linestyle=(0, (4, 3)))
            place.set_title(name, fontsize=11)
            place.set_xlabel("step")
            place.set_ylim(0, 2)
            place.spines[["top", "right"]].set_visible(False)
        axes[0].legend(frameon=False, loc="lower left")
    return figure


if __name__ == "__main__":
    main()
