import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from gancore.contracts import Scores
from gancore.settings import START, Schedule, TrainingTime
from gancore_plugins.regularizers.lipschitz import DRAGAN, GradientPenalty, WeightClipping

norms = st.floats(0.1, 10)
seeds = st.integers(0, 2**32 - 1)


def linear(norm, shape=(1, 2, 3)):
    """A critic whose gradient has this norm everywhere."""
    weight = torch.randn(shape, dtype=torch.float64)
    weight = (weight * norm / weight.norm()).requires_grad_()

    def critic(images, labels):
        return Scores(images=images, logits=(images * weight).flatten(1).sum(dim=1, keepdim=True), labels=labels)

    return critic, weight


def batch(count=6, shape=(1, 2, 3)):
    return Scores(images=torch.randn(count, *shape, dtype=torch.float64), logits=torch.zeros(count, 1))


@given(norm=norms, seed=seeds)
@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
def test_gradient_penalty_of_a_linear_critic_equals_the_formula(regularizer, norm, seed):
    torch.manual_seed(seed)
    critic, weight = linear(norm)
    found = regularizer.penalty(critic, batch(), batch())
    assert found.item() == pytest.approx((norm - 1) ** 2, abs=1e-6)
    (by_weight,) = torch.autograd.grad(found, weight)
    torch.testing.assert_close(by_weight, (2 * (norm - 1) * weight / norm).detach(), rtol=1e-6, atol=1e-6)


@given(seed=seeds)
@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
def test_gradient_penalty_is_the_mean_over_points_with_different_norms(regularizer, seed):
    torch.manual_seed(seed)
    matrix = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    points = []

    def quadratic(images, labels):
        points.append(images.detach().flatten(1))
        flat = images.flatten(1)
        return Scores(images=images, logits=((flat @ matrix) * flat).sum(dim=1, keepdim=True), labels=labels)

    found = regularizer.penalty(quadratic, batch(), batch())
    norms = torch.linalg.vector_norm(points[0] @ (matrix + matrix.T), dim=1)
    expected = (norms - 1).square().mean()
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(each, matrix) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
def test_gradient_penalty_of_a_unit_norm_is_zero(regularizer):
    critic, _ = linear(1.0)
    assert regularizer.penalty(critic, batch(), batch()).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
def test_gradient_penalty_of_a_flat_critic_has_a_finite_gradient(regularizer):
    weight = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    found = regularizer.penalty(
        lambda images, labels: Scores(images=images, logits=(images * weight).flatten(1).sum(1, keepdim=True)),
        batch(),
        batch(),
    )
    (by_weight,) = torch.autograd.grad(found, weight)
    assert by_weight.isfinite().all()


def points_of(regularizer, real, fake):
    calls = []

    def critic(images, labels):
        calls.append(images.detach())
        return Scores(images=images, logits=images.flatten(1).sum(dim=1, keepdim=True), labels=labels)

    regularizer.penalty(critic, real, fake)
    (points,) = calls
    return points


@given(seeds)
def test_wgan_gp_points_are_random_positions_between_each_pair(seed):
    torch.manual_seed(seed)
    real, fake = batch(), batch()
    shares = (points_of(GradientPenalty(), real, fake) - fake.images) / (real.images - fake.images)
    first = shares.flatten(1)[:, :1]
    torch.testing.assert_close(shares.flatten(1), first.expand(-1, 6), rtol=1e-6, atol=1e-6)
    assert (first >= -1e-6).all()
    assert (first <= 1 + 1e-6).all()
    assert len(first.unique()) == len(first)


@given(seed=seeds, reach=st.floats(0.1, 2))
def test_dragan_points_are_around_the_real_images(seed, reach):
    torch.manual_seed(seed)
    real = batch()
    moves = points_of(DRAGAN(reach=reach), real, batch()) - real.images
    assert (moves >= 0).all()
    assert (moves <= reach * real.images.std(correction=0)).all()
    assert all(len(move.unique()) == move.numel() for move in moves), "each pixel moves by itself"


@pytest.mark.parametrize("regularizer", [GradientPenalty, DRAGAN])
def test_gradient_penalty_refuses_a_negative_weight(regularizer):
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        regularizer(weight=-1.0)


@given(limit=st.floats(1e-3, 1), seed=seeds)
def test_weight_clipping_clamps_only_trained_parameters(limit, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    network[2].weight.requires_grad_(False).fill_(7.0)
    network[1].running_mean.fill_(7.0)
    before = network[0].weight.detach().clone()
    regularizer = WeightClipping(limit=limit)
    regularizer.project(network, regularizer.strength(START))
    torch.testing.assert_close(network[0].weight.detach(), before.clamp(-limit, limit))
    assert network[1].weight.abs().max() <= limit + 1e-6
    assert (network[2].weight == 7).all()
    assert (network[1].running_mean == 7).all()


def test_weight_clipping_limit_may_be_a_schedule():
    narrowing = WeightClipping(limit=Schedule(start=0.1, to=0.01, kimg=1.0))
    assert narrowing.strength(TrainingTime(10_000, 0.0)) == pytest.approx(0.01)
