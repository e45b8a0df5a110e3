"""A loop written by hand, with a loss and a penalty of gancore. About 20 seconds on one core.

python own_loop.py
"""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

import gancore

STEPS = 2000

loss = gancore.find("loss", "relativistic")
r1 = gancore.find("regularizer", "r1", gamma=0.5, interval=4)
digits = gancore.find("dataset", "digits").build(Path())
torch.manual_seed(0)
loader = DataLoader(digits, batch_size=64, shuffle=True, drop_last=True)

G = nn.Sequential(
    nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 64), nn.Tanh(),
    nn.Unflatten(1, (1, 8, 8)),
)  # fmt: skip
D = nn.Sequential(
    nn.Flatten(), nn.Linear(64, 256), nn.LeakyReLU(0.2), nn.Linear(256, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
)
g_optimizer = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.99))
d_optimizer = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.0, 0.99))

step = 0
while step < STEPS:
    for images, _ in loader:  # uint8 (N, 1, 8, 8)
        images = images / 127.5 - 1  # [-1, 1]
        images.requires_grad_()  # for R1
        d_optimizer.zero_grad()
        real = gancore.score(D, images)
        fake = gancore.score(D, G(torch.randn(len(images), 16)).detach())
        d_loss = loss.discriminator(real, fake)
        if step % r1.interval == 0:
            d_loss = d_loss + gancore.penalty(r1, real, fake)
        d_loss.backward()
        d_optimizer.step()

        g_optimizer.zero_grad()
        with torch.no_grad():
            real = gancore.score(D, images)
        fake = gancore.score(D, G(torch.randn(len(images), 16)))
        g_loss = loss.generator(fake, real)
        g_loss.backward()
        g_optimizer.step()

        step += 1
        if step % 500 == 0:
            print(f"step {step}: D {d_loss.item():.3f}, G {g_loss.item():.3f}")

with torch.no_grad():
    drawn = G(torch.randn(64, 16))  # (64, 1, 8, 8) in [-1, 1]
gancore.save_samples(((drawn + 1) * 127.5).round().to(torch.uint8), "own_loop.png")
