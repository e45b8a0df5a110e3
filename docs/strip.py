"""Draw strip.webp, the animated picture at the top of the README, from four runs.

    gancore train mnist --minutes 3 --out runs/digits
    gancore train fashion-mnist --minutes 10 --out runs/clothes
    gancore train EMOJI.zip --minutes 30 --out runs/emoji
    gancore train ring --kimg 1500 --set sample.every_kimg=30 --out runs/ring
    python docs/strip.py runs/digits runs/clothes runs/emoji runs/ring

The first three panels are the first samples of seed 0, not selected. The fourth is a walk between eight latents of the
emoji, the fifth the samples of the ring during training.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import gancore
from gancore.sampling.grid import Layout, grid

TITLES = ("digits, {}", "clothes, {}", "emoji, {}", "a walk between emoji", "eight modes, {}")
SIDE, TITLE, GAP = 196, 22, 10
FRAMES, ROWS = 48, 6


def main() -> None:
    paths = [Path(path) for path in sys.argv[1:]]
    digits, clothes, emoji, ring = (gancore.load(path, device="cpu") for path in paths)
    titles = [
        title.format(f"{run.config.total.amount:g} {run.config.total.unit}")
        for title, run in zip(TITLES, (digits, clothes, emoji, emoji, ring), strict=True)
    ]
    stills = [panel(run.sample(ROWS * ROWS, seed=0)) for run in (digits, clothes, emoji)]
    moving = zip(map(panel, walk(emoji)), frames_of(paths[-1]), strict=True)
    frames = [canvas([*stills, *shown], titles) for shown in moving]
    target = Path(__file__).with_name("strip.webp")
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=120, loop=0, quality=55, method=6)


def panel(images: Tensor) -> Image.Image:
    """Return images (N, C, H, W) as a square of rows and columns."""
    rows = round(len(images) ** 0.5)
    return grid(images, Layout((rows, rows), upscale=4)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def walk(trained: gancore.TrainedGenerator) -> list[Tensor]:
    """Return frames of nine images (9, C, H, W), each on a closed walk between latents of its own."""
    corners = trained.seed_latents(range(36)).unflatten(0, (4, 9))
    classes = trained.spec.condition
    labels = torch.arange(9) % classes if isinstance(classes, int) else None
    found = []
    for number in range(FRAMES):
        corner, share = divmod(number * len(corners) / FRAMES, 1)
        first, second = corners[int(corner)], corners[(int(corner) + 1) % len(corners)]
        angle = torch.tensor(share * torch.pi / 2)
        latents = angle.cos() * first + angle.sin() * second
        found.append(trained.generate(latents, labels))
    return found


def frames_of(run: Path) -> list[Image.Image]:
    """Return the first pictures of the samples of a run, without their captions."""
    shown = gancore.timelapse(run)
    pictures = [frame for chunk in shown for frame in chunk][:FRAMES]
    side = pictures[0].shape[-1]
    images = [Image.fromarray(frame[:3, :side].movedim(0, 2).numpy()) for frame in pictures]
    return [image.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for image in images]


def canvas(panels: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Return the panels side by side above their titles."""
    made = Image.new("RGB", (len(panels) * (SIDE + GAP) - GAP, SIDE + TITLE), "#ffffff")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(13)
    for number, (title, shown) in enumerate(zip(titles, panels, strict=True)):
        left = number * (SIDE + GAP)
        made.paste(shown, (left, 0))
        pen.text((left + SIDE // 2, SIDE + TITLE // 2), title, "#1f2933", font, anchor="mm")
    return made


if __name__ == "__main__":
    main()
