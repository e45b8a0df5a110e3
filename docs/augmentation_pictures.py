"""Draw augmentations.png, each operation of `ada` at probability 1: `python docs/augmentation_pictures.py`."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor

from gancore.contracts import Spec
from gancore_plugins.augmentations.ada import ADA
from gancore_plugins.augmentations.ada_operations import GROUPS

DOCS = Path(__file__).absolute().parent
SIDE, DRAWN, COLUMNS = 48, 5, 2
SPEC = Spec((3, SIDE, SIDE), mirrors=True)


def arrow() -> Tensor:
    """Return a picture (3, SIDE, SIDE) of an arrow to the upper left before a sky, with fine stripes at the bottom."""
    position = torch.linspace(-1, 1, SIDE)
    x, y = position, position.unsqueeze(1)
    picture = torch.stack([0.1 + 0.5 * y + 0 * x, 0.3 + 0.4 * y + 0 * x, 0.9 + 0 * x + 0 * y])
    stripes = (y > 0.7) & (torch.arange(SIDE) % 4 < 2)
    shaft = ((x - y).abs() < 0.22) & (x + y > -0.7) & (x + y < 0.9)
    head = (x + y < -0.3) & (x > -0.75) & (y > -0.75)
    picture[:, stripes] = torch.tensor([[-0.6], [0.2], [-0.7]])
    picture[:, shaft | head] = torch.tensor([[0.9], [-0.2], [-0.8]])
    return picture.clamp(-1, 1)


def rows() -> list[tuple[str, Tensor]]:
    """Return the title and the pictures (DRAWN, 3, SIDE, SIDE) of each row."""
    copies = arrow().expand(DRAWN, -1, -1, -1)
    single = {
        name: ADA(policy=(name,), start=1.0, most=1.0)
        for name in (*(name for group in GROUPS.values() for name in group), "noise", "cutout")
    }
    shown = {**single, "all of the default, at 0.8": ADA(start=0.8)}
    return [("as it is", copies), *((title, ada.build(SPEC)(copies, 1.0)) for title, ada in shown.items())]


def main() -> None:
    """Draw all rows, in columns."""
    torch.manual_seed(5)
    drawn = rows()
    height = -(-len(drawn) // COLUMNS)
    figure, axes = plt.subplots(height, COLUMNS, figsize=(7.6, 0.92 * height), dpi=100, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, pictures) in zip(axes.T.flat, drawn, strict=False):
        gap = torch.ones(3, SIDE, 3)
        strip = torch.cat([part for picture in pictures for part in (picture, gap)], dim=2)
        axis.imshow(((strip.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy(), interpolation="nearest")
        axis.set_title(title, fontsize=8, loc="left", pad=2)
    file = BytesIO()
    figure.savefig(file)
    Image.open(file).convert("RGB").quantize(200).save(DOCS / "augmentations.png", optimize=True)


if __name__ == "__main__":
    main()
