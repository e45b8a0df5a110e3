"""The loop of PyTorch's DCGAN tutorial, restated: what most people train first on pictures of their own.

Its networks and constants: strided convolutions with batch normalization (Radford et al. 2016, arXiv:1511.06434),
weights from N(0, 0.02), Adam, separate batches of real and fake images for D, no average of weights, samples drawn in
training mode. The tutorial's networks are for 64 pixels; those for 32 have one convolution less, and those for 28 two,
between 7x7 and 28x28.

    python -m benchmarks.dcgan_loop --data images.npy --minutes 10 --seed 0 --out samples.npy

`--diffaugment` adds the augmentation of Zhao et al. 2020 (arXiv:2006.10738), which the tutorial does not have.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from gancore_plugins.augmentations.operations import color, cutout, translation

LATENT = 100
WIDTH = 64
BATCH = 128
RATE = 2e-4
BETAS = (0.5, 0.999)
STARTS = {28: 7, 32: 4, 64: 4}
"""Sides of images, and of the smallest feature maps of their networks."""


def channels(side: int) -> list[int]:
    """Return the channels of the feature maps of D, largest map first: doubled with every halving."""
    return [WIDTH * 2**level for level in range(int(math.log2(side // STARTS[side])))]


class Generator(nn.Sequential):
    def __init__(self, colors: int, side: int) -> None:
        widths = channels(side)[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(LATENT, widths[0], STARTS[side], bias=False)]
        for inputs, outputs in pairwise([*widths, colors]):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU()]
            layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False))
        super().__init__(nn.Unflatten(1, (LATENT, 1, 1)), *layers, nn.Tanh())


class Discriminator(nn.Sequential):
    def __init__(self, colors: int, side: int) -> None:
        widths = channels(side)
        layers: list[nn.Module] = [nn.Conv2d(colors, WIDTH, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2)]
        for inputs, outputs in pairwise(widths):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, STARTS[side], bias=False), nn.Flatten(0))


def initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def diffaugment(images: Tensor) -> Tensor:
    return cutout(translation(color(images)))


def train(
    images: Tensor, generator: nn.Module, discriminator: nn.Module, seconds: float, augment: Callable[[Tensor], Tensor]
) -> int:
    """Train on images (N, C, H, W) in [-1, 1] for these seconds, and return how many D has seen."""
    loss = nn.BCEWithLogitsLoss()
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=RATE, betas=BETAS)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=RATE, betas=BETAS)
    seen, end = 0, time.perf_counter() + seconds
    while True:
        for indices in torch.split(torch.randperm(len(images)), BATCH):
            real = images[indices]
            fake = generator(torch.randn(len(real), LATENT))
            ones, zeros = torch.ones(len(real)), torch.zeros(len(real))

            optimizer_d.zero_grad()
            loss(discriminator(augment(real)), ones).backward()
            loss(discriminator(augment(fake.detach())), zeros).backward()
            optimizer_d.step()

            optimizer_g.zero_grad()
            loss(discriminator(augment(fake)), ones).backward()
            optimizer_g.step()

            seen += len(real)
            if time.perf_counter() >= end:
                return seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help=".npy with uint8 images (N, C, H, W) of 28, 32 or 64 pixels")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, help="[default: as torch chooses]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--diffaugment", action="store_true", help="augment by color, translation and cutout")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    images = torch.from_numpy(np.load(arguments.data, allow_pickle=False)).float().div(127.5).sub(1)
    _, colors, side, _ = images.shape
    generator, discriminator = Generator(colors, side), Discriminator(colors, side)
    generator.apply(initialize)
    discriminator.apply(initialize)
    augment = diffaugment if arguments.diffaugment else nn.Identity()
    start = time.perf_counter()
    seen = train(images, generator, discriminator, 60 * arguments.minutes, augment)
    seconds = time.perf_counter() - start

    with torch.no_grad():
        noise = torch.randn(arguments.samples, LATENT)
        samples = torch.cat([generator(part) for part in torch.split(noise, BATCH)])
    np.save(arguments.out, samples.add(1).mul(127.5).round().to(torch.uint8).numpy())
    print(json.dumps({"seconds": seconds, "images": seen, "finite": bool(samples.isfinite().all())}))


if __name__ == "__main__":
    main()
