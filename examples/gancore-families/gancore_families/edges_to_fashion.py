"""From edges to the pictures of Fashion-MNIST: train the recipe `edges-to-fashion`, measure it, and draw a picture.

    python -m gancore_families.edges_to_fashion --data-dir DATA --out edges-to-fashion.png

DATA holds FashionMNIST/raw; without the files they are downloaded. The columns of the picture are held-out articles:
their edges, what the generator makes of them, and the real pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import gancore_families
from gancore import GAN, Catalog, ConfigLayer, read_plugin, resolve, train
from gancore.config.run import read_layers
from gancore_families.pix2pix import Edges
from gancore_plugins.datasets.mnist import FashionMNIST

SCALE = 2
"""Pixels of the drawn picture per pixel of an article, in each direction."""


def main() -> None:
    arguments = parse()
    plugin = read_plugin(gancore_families, "families", "gancore-families", "0.1.0")
    installed = [each for each in Catalog.installed().plugins if each.name != plugin.name]
    catalog = Catalog([*installed, plugin])
    changes: dict[str, object] = {"duration": arguments.duration} if arguments.duration else {}
    config = resolve([*read_layers("edges-to-fashion", catalog), ConfigLayer("options", changes)], catalog)
    gan = GAN.assemble(config, arguments.data_dir, arguments.device)
    for step in train(gan):
        if step.step % 100 == 0:
            print(f"{step.done:.0%}, {step.seconds:.0f} s", file=sys.stderr, flush=True)  # noqa: T201  # a program
    print(report(gan, arguments.data_dir, arguments.out))  # noqa: T201  # a program


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds FashionMNIST/raw")
    parser.add_argument("--out", type=Path, required=True, help="PNG file of the picture")
    parser.add_argument("--duration", help="such as '100 steps'; default: that of the recipe")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


@torch.no_grad()
def report(gan: GAN, data: Path, picture: Path) -> str:
    """Draw the picture, and return a line with the distances of 2,000 held-out pictures, in [-1, 1]."""
    items = Edges(pictures=FashionMNIST(split="test")).build(data)
    stored, edges = (tensor[:2000] for tensor in items.tensors)
    real, condition = (tensor.to(gan.device) / 127.5 - 1 for tensor in (stored, edges))
    generator = gan.sampler().eval()
    latent = gan.latent(len(real))
    made, misled = (
        torch.cat([generator(*part) for part in zip(latent.chunk(8), given.chunk(8), strict=True)])
        for given in (condition, condition.roll(1, dims=0))
    )
    draw([condition, made, real], picture)
    mean = torch.stack([gan.feed.dataset[index][0] for index in range(5000)]).float().mean(dim=0).to(gan.device)
    return (
        f"mean absolute difference from the real picture: {distance(made, real):.3f}; with the edges of another "
        f"article {distance(misled, real):.3f}; of the mean picture {distance(mean / 127.5 - 1, real):.3f}"
    )


def distance(one: Tensor, other: Tensor) -> float:
    """Return the mean absolute difference."""
    return float((one - other).abs().mean())


def draw(rows: list[Tensor], file: Path, columns: int = 16) -> None:
    """Write pictures (N, 1, H, W) in [-1, 1] as a PNG, a row for each tensor."""
    lines = [torch.cat(list(row[:columns, 0]), dim=1) for row in rows]  # (H, columns * W) each
    gray = ((torch.cat(lines) + 1) * 127.5).round().clamp(0, 255).byte().cpu()
    image = Image.fromarray(gray.numpy())
    image.resize((SCALE * image.width, SCALE * image.height), Image.Resampling.NEAREST).save(file, optimize=True)


if __name__ == "__main__":
    main()
