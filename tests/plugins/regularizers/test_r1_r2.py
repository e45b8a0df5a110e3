import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from gancore.contracts import Scores
from gancore.settings import START, Schedule, TrainingTime
from gancore_plugins.regularizers.gradients import R1, R2

seeds = st.integers(0, 2**32 - 1)


def scored(critic, images):
    """Scores of images as the training step makes them for a penalty: the images are a leaf of the graph."""
    images = images.detach().requires_grad_()
    return Scores(images=images, logits=critic(images))


def batches(seed, count=5, size=4):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(count, size, generator=rng, dtype=torch.float64) for _ in range(2)]


@given(seed=seeds, outputs=st.integers(1, 3))
def test_r1_and_r2_of_a_linear_critic_are_half_the_square_of_its_weights(seed, outputs):
    real, fake = batches(seed)
    critic = nn.Linear(4, outputs, dtype=torch.float64)
    expected = critic.weight.sum(dim=0).square().sum() / 2
    for regularizer in (R1(), R2()):
        found = regularizer.penalty(scored(critic, real), scored(critic, fake))
        torch.testing.assert_close(found, expected)
        (by_weight,) = torch.autograd.grad(found, critic.weight)
        torch.testing.assert_close(by_weight, critic.weight.sum(dim=0).expand(outputs, 4))


@given(seeds)
def test_r1_is_taken_at_real_images_and_r2_at_fakes(seed):
    real, fake = batches(seed)
    matrix = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)

    def quadratic(images):
        return ((images @ matrix) * images).sum(dim=1, keepdim=True)

    for regularizer, images in ((R1(), real), (R2(), fake)):
        found = regularizer.penalty(scored(quadratic, real), scored(quadratic, fake))
        gradients = images @ (matrix + matrix.T)
        torch.testing.assert_close(found, gradients.square().sum(dim=1).mean() / 2)
        (expected,) = torch.autograd.grad(gradients.square().sum(dim=1).mean() / 2, matrix)
        torch.testing.assert_close(torch.autograd.grad(found, matrix)[0], expected)


def test_r1_strength_is_gamma_which_may_be_a_schedule():
    assert R1(gamma=3.0).strength(START) == 3
    falling = R2(gamma=Schedule(start=4.0, to=2.0, kimg=1.0))
    assert [falling.strength(TrainingTime(images, 0.0)) for images in (0, 500, 1000, 5000)] == [4, 3, 2, 2]


@pytest.mark.parametrize("gamma", [-0.1, Schedule(start=1.0, to=-1.0, kimg=1.0)])
def test_r1_refuses_a_negative_gamma(gamma):
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        R1(gamma=gamma)
