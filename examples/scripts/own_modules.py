"""Train networks and a loss of your own, which need no plugin. About 30 seconds on one core.

python own_modules.py
"""

import torch
from torch import Tensor, nn

import gancore


class LeastSquares:
    """LSGAN (Mao et al. 2017, arXiv:1611.04076, equation 9): real images have the target 1, fakes 0."""

    needs_real = False

    def discriminator(self, real: gancore.Scores, fake: gancore.Scores) -> Tensor:
        return 0.5 * (real.logits - 1).square().mean() + 0.5 * fake.logits.square().mean()

    def generator(self, fake: gancore.Scores, real: gancore.Scores | None) -> Tensor:
        return 0.5 * (fake.logits - 1).square().mean()


torch.manual_seed(0)  # the weights that the run begins with
G = nn.Sequential(
    nn.Linear(16, 64 * 4),  # latents (N, Z)
    nn.ReLU(),
    nn.Unflatten(1, (64, 2, 2)),
    nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),  # (N, 32, 4, 4)
    nn.ReLU(),
    nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),  # images (N, 1, 8, 8) in [-1, 1]
    nn.Tanh(),
)
D = nn.Sequential(
    nn.Conv2d(1, 32, 4, stride=2, padding=1),  # (N, 32, 4, 4)
    nn.LeakyReLU(0.2),
    nn.Conv2d(32, 64, 4, stride=2, padding=1),  # (N, 64, 2, 2)
    nn.LeakyReLU(0.2),
    nn.Flatten(),
    nn.Linear(64 * 4, 1),  # logits (N, 1)
)
adam = {"lr": 1e-3, "betas": [0.0, 0.99]}
run = gancore.Run(
    generator=G,
    discriminator=D,
    dataset="digits",
    loss=LeastSquares(),
    regularizers={"r1": {"gamma": 1.0}},
    set={"latent.dim": 16, "ema.half_life_kimg": 10.0, "optimizer.generator": adam, "optimizer.discriminator": adam},
    steps=2000,
    out="runs/own-modules",
)
for _ in run.train(progress=True):
    pass
gancore.save_samples(run.load().sample(64, seed=0), "own_modules.png")
