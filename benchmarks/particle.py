"""ParticleGAN on the same points for the same seconds, for benchmarks.toys: networks and loop as its README has them.

It needs `pip install particlegan==0.9.4`. Its wheel names no license, so it is not in the extra `benchmarks`.
"""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter

import torch
from particlegan import GANTrainer, get_recipe, init
from torch import Tensor, nn


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def train_for(
    seconds: float, points: Tensor, recipe_name: str, std: float, seed: int, count: int
) -> tuple[Tensor, int]:
    """Train on the points (N, 2) for these seconds; return samples (count, 2), and how many points D has seen.

    All settings are those of ParticleGAN's recipe, `gan`, its default, or `e22`, which its README has for mixtures and
    which needs the standard deviation of a mode: among them 20,000 particles of 2 numbers and batches of 2,048. The
    networks have the widths of those of the recipe `grid`. Both recipes have no schedule that depends on the length.
    """
    recipe = get_recipe(recipe_name, **({"output_noise_std": std} if recipe_name == "e22" else {}))
    generator, discriminator = mlp(recipe.z_dim, 128, 128, 2), mlp(2, 256, 256, 1)
    init.deterministic_orthogonal_(generator, seed=2 * seed)
    init.deterministic_orthogonal_(discriminator, seed=2 * seed + 1)
    prior = init.deterministic_orthogonal_(recipe.make_prior())
    trainer = GANTrainer(recipe, generator, discriminator, prior=prior, seed=seed, max_steps=2**31)
    stream, seen, end = torch.Generator().manual_seed(seed), 0, perf_counter() + seconds

    def batch() -> Tensor:
        return points[torch.randint(len(points), (recipe.batch_size,), generator=stream)]

    while perf_counter() < end:
        trainer.step(batch(), generator_real=batch)
        seen += recipe.batch_size
    return trainer.sample(count), seen
