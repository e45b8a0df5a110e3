"""The plain script: a GAN for MNIST or Fashion-MNIST as tutorials write it, with only torch and torchvision.

The recipe `vanilla` of gancore must agree with it and every other recipe must beat it, so nothing in it is clever.

    python -m benchmarks.plain --data-dir DATA --epochs 50 --seed 0 --out samples.npy
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

LATENT = 100
BATCH = 64
RATE = 2e-4


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 784),
            nn.Tanh(),
        )

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        pixels: torch.Tensor = self.layers(noise)
        return pixels.view(-1, 1, 28, 28)


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def mnist(folder: str, dataset: type[datasets.MNIST] = datasets.MNIST) -> datasets.MNIST:
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    return dataset(folder, train=True, transform=transform)


def train(
    loader: Iterable[Sequence[torch.Tensor]],
    generator: nn.Module,
    discriminator: nn.Module,
    epochs: int,
    seconds: float = math.inf,
) -> int:
    """Train for these epochs, or seconds if those end first, and return how many images D has seen."""
    seen, end = 0, time.perf_counter() + seconds
    loss = nn.BCEWithLogitsLoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=RATE)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=RATE)
    for _ in range(epochs):
        for real, _ in loader:
            ones, zeros = (make(len(real), 1, device=real.device) for make in (torch.ones, torch.zeros))
            fake = generator(torch.randn(len(real), LATENT, device=real.device))

            loss_d = loss(discriminator(real), ones) + loss(discriminator(fake.detach()), zeros)
            optimizer_d.zero_grad()
            loss_d.backward()
            optimizer_d.step()

            loss_g = loss(discriminator(fake), ones)
            optimizer_g.zero_grad()
            loss_g.backward()
            optimizer_g.step()

            seen += len(real)
            if time.perf_counter() >= end:
                return seen
    return seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--dataset", choices=("MNIST", "FashionMNIST"), default="MNIST")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop earlier, after these minutes of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    data = mnist(arguments.data_dir, getattr(datasets, arguments.dataset))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    generator, discriminator = Generator(), Discriminator()
    start = time.perf_counter()
    seen = train(loader, generator, discriminator, arguments.epochs, 60 * arguments.minutes)
    seconds = time.perf_counter() - start

    with torch.no_grad():
        images = generator(torch.randn(arguments.samples, LATENT))
    np.save(arguments.out, images.add(1).mul(127.5).round().to(torch.uint8).numpy())
    print(json.dumps({"seconds": seconds, "images": seen, "finite": bool(images.isfinite().all())}))


if __name__ == "__main__":
    main()
