"""Whether augmentations leak into G: Karras et al. 2020 (arXiv:2006.06676), section 2.2."""

import torch
from torch import autograd, nn, optim
from torch.nn.functional import softplus

from gancore.contracts import Spec
from gancore_plugins.augmentations.ada import ADA

SIDE, BATCH, LATENT = 4, 64, 8


def upright():
    """A picture whose upper half is light."""
    picture = -torch.ones(1, SIDE, SIDE)
    picture[:, : SIDE // 2] = 1
    return picture


def orientations(pictures):
    """The share of pictures that are like the upright one, and like it after 1, 2 and 3 rotations by 90 degrees."""
    likeness = torch.stack([(pictures * upright().rot90(turns, (1, 2))).sum(dim=(1, 2, 3)) for turns in range(4)])
    return [(likeness.argmax(dim=0) == turns).double().mean().item() for turns in range(4)]


def drawn_after_training(probability, steps=300):
    """Pictures by a G that begins with rotated ones, and sees upright ones under rotations with a fixed probability."""
    torch.manual_seed(0)
    augment = ADA(policy=("rotate90",), start=probability, most=1.0).build(Spec((1, SIDE, SIDE)))
    generator = nn.Sequential(
        *(nn.Linear(LATENT, 32), nn.ReLU(), nn.Linear(32, SIDE**2), nn.Unflatten(1, (1, SIDE, SIDE)))
    )
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    with torch.no_grad():
        generator[2].bias.copy_(upright().rot90(1, (1, 2)).flatten())
    g_optimizer, d_optimizer = (optim.Adam(each.parameters(), 4e-3, (0.0, 0.99)) for each in (generator, discriminator))
    for _ in range(steps):
        real = (upright() + 0.3 * torch.randn(BATCH, 1, SIDE, SIDE)).requires_grad_()
        real_logits = discriminator(augment(real, 1.0))
        fake_logits = discriminator(augment(generator(torch.randn(BATCH, LATENT)).detach(), 1.0))
        (slope,) = autograd.grad(real_logits.sum(), real, create_graph=True)  # R1, through the augmentation
        d_optimizer.zero_grad()
        (softplus(-real_logits) + softplus(fake_logits) + 4 * slope.square().sum(dim=(1, 2, 3))).mean().backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        softplus(-discriminator(augment(generator(torch.randn(BATCH, LATENT)), 1.0))).mean().backward()
        g_optimizer.step()
    with torch.no_grad():
        return generator(torch.randn(200, LATENT))


def test_rotations_at_the_safe_probability_do_not_leak_into_g():
    assert orientations(drawn_after_training(0.8))[0] > 0.95


def test_rotations_at_probability_one_leak_into_g():
    # D sees all orientations equally often, so nothing says which one is right: G keeps the one it has.
    assert orientations(drawn_after_training(1.0))[0] < 0.05
