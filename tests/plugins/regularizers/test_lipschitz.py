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


class Critic:
    """The `players` of scores, whose D is a function of images (N, *shape); `seen` has the points that it scored."""

    def __init__(self, logits):
        self.logits, self.seen = logits, []

    def score(self, images, condition=None, extras=None):
        extras = extras or {}
        self.seen.append(Scores(images=images, logits=torch.zeros(0), condition=condition, extras=extras))
        return Scores(images=images, logits=self.logits(images).reshape(-1, 1), condition=condition, extras=extras)


def linear(norm, shape=(1, 2, 3)):
    """Return a critic whose gradient has this norm everywhere, and its weights."""
    weight = torch.randn(shape, dtype=torch.float64)
    weight = (weight * norm / weight.norm()).requires_grad_()
    return Critic(lambda images: (images * weight).flatten(1).sum(dim=1)), weight


def total(images):
    return images.flatten(1).sum(dim=1)


def batch(critic, count=6, shape=(1, 2, 3), **fields):
    images = torch.randn(count, *shape, dtype=torch.float64)
    return Scores(images=images, logits=torch.zeros(count, 1), players=critic, **fields)


@given(norm=norms, seed=seeds)
@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
def test_gradient_penalty_of_a_linear_critic_equals_the_formula(regularizer, norm, seed):
    torch.manual_seed(seed)
    critic, weight = linear(norm)
    found = regularizer.penalty(batch(critic), batch(critic))
    assert found.item() == pytest.approx((norm - 1) ** 2, abs=1e-6)
    (by_weight,) = torch.autograd.grad(found, weight)
    torch.testing.assert_close(by_weight, (2 * (norm - 1) * weight / norm).detach(), rtol=1e-6, atol=1e-6)


@given(seed=seeds)
@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
def test_gradient_penalty_is_the_mean_over_points_with_different_norms(regularizer, seed):
    torch.manual_seed(seed)
    matrix = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    critic = Critic(lambda images: ((images.flatten(1) @ matrix) * images.flatten(1)).sum(dim=1))
    found = regularizer.penalty(batch(critic), batch(critic))
    points = critic.seen[0].images.detach().flatten(1)
    expected = (torch.linalg.vector_norm(points @ (matrix + matrix.T), dim=1) - 1).square().mean()
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(each, matrix) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
def test_gradient_penalty_of_a_unit_norm_is_zero(regularizer):
    critic, _ = linear(1.0)
    assert regularizer.penalty(batch(critic), batch(critic)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
def test_gradient_penalty_of_a_flat_critic_has_a_finite_gradient(regularizer):
    weight = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    critic = Critic(lambda images: total(images * weight))
    (by_weight,) = torch.autograd.grad(regularizer.penalty(batch(critic), batch(critic)), weight)
    assert by_weight.isfinite().all()


def points_of(regularizer, real, fake):
    """Return the scores whose images are the points at which the penalty takes gradients."""
    regularizer.penalty(real, fake)
    (points,) = real.players.seen
    return points


@given(seeds)
def test_wgan_gp_points_are_random_positions_between_each_pair(seed):
    torch.manual_seed(seed)
    critic = Critic(total)
    real, fake = batch(critic), batch(critic)
    shares = (points_of(GradientPenalty(), real, fake).images.detach() - fake.images) / (real.images - fake.images)
    first = shares.flatten(1)[:, :1]
    torch.testing.assert_close(shares.flatten(1), first.expand(-1, 6), rtol=1e-6, atol=1e-6)
    assert (first >= -1e-6).all()
    assert (first <= 1 + 1e-6).all()
    assert len(first.unique()) == len(first)


@given(seed=seeds, shape=st.lists(st.integers(1, 3), max_size=3).map(tuple))
def test_wgan_gp_points_have_extras_at_the_position_of_their_image(seed, shape):
    torch.manual_seed(seed)
    critic = Critic(total)
    ends = [{"code": torch.full((6, *shape), value, dtype=torch.float64)} for value in (1.0, 0.0)]
    # Fakes may have extras that D does not receive.
    real, fake = batch(critic, extras=ends[0]), batch(critic, extras=ends[1] | {"mask": torch.zeros(6, 2)})
    points = points_of(GradientPenalty(), real, fake)
    assert points.extras.keys() == {"code"}
    share = points.extras["code"].view(6, -1)  # from 0 at the fakes to 1 at the real images
    expected = torch.lerp(fake.images, real.images, share[:, 0].view(6, 1, 1, 1))
    torch.testing.assert_close(points.images.detach(), expected)
    assert torch.equal(share, share[:, :1].expand_as(share))


@given(seed=seeds, reach=st.floats(0.1, 2))
def test_dragan_points_are_around_the_real_images(seed, reach):
    torch.manual_seed(seed)
    critic = Critic(total)
    extras = {"code": torch.randn(6, 2)}
    real = batch(critic, extras=extras)
    points = points_of(DRAGAN(reach=reach), real, batch(critic))
    moves = points.images.detach() - real.images
    assert (moves >= 0).all()
    assert (moves <= reach * real.images.std(correction=0)).all()
    assert all(len(move.unique()) == move.numel() for move in moves), "each pixel moves by itself"
    assert points.extras == extras


@pytest.mark.parametrize("regularizer", [GradientPenalty(), DRAGAN()])
@pytest.mark.parametrize("condition", [None, torch.arange(6), torch.randn(6, 3, 4)])
def test_gradient_penalty_scores_points_with_the_condition_of_the_real_images(regularizer, condition):
    critic = Critic(total)
    points = points_of(regularizer, batch(critic, condition=condition), batch(critic))
    assert points.condition is condition


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
