"""LeCam: the recursion of its anchors, and its penalty."""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.contracts import Scores, Spec
from gancore.settings import Schedule, TrainingTime
from gancore_plugins.regularizers.lecam import LeCam

SPEC = Spec((1, 4, 4))


def scores_of(logits, **more):
    return Scores(images=torch.zeros(len(logits), 1, 4, 4), logits=logits, **more)


@given(
    seed=st.integers(0, 2**32 - 1),
    decay=st.floats(0, 0.999),
    updates=st.integers(1, 6),
    outputs=st.sampled_from([1, 3]),
)
@settings(max_examples=25)
def test_anchors_are_moving_averages_of_mean_logits(seed, decay, updates, outputs):
    rng = torch.Generator().manual_seed(seed)
    built, anchors = LeCam(decay=decay).build(SPEC), None
    for _ in range(updates):
        real, fake = torch.randn(2, 5, outputs, generator=rng)
        penalty = built.penalty(scores_of(real), scores_of(fake))
        means = [float(real.mean()), float(fake.mean())]
        anchors = (
            means if anchors is None else [decay * a + (1 - decay) * m for a, m in zip(anchors, means, strict=True)]
        )
        expected = (real - anchors[1]).square().mean() + (fake - anchors[0]).square().mean()
        torch.testing.assert_close(penalty, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack([built.real, built.fake]), torch.tensor(anchors), rtol=1e-4, atol=1e-5)


def test_gradient_goes_to_logits_and_not_to_anchors():
    built = LeCam(decay=0.0).build(SPEC)
    real, fake = torch.tensor([[1.0], [3.0]], requires_grad=True), torch.tensor([[0.0], [-2.0]], requires_grad=True)
    built.penalty(scores_of(real), scores_of(fake)).backward()
    assert real.grad.tolist() == [[2.0], [4.0]]  # away from the mean of fakes, -1
    assert fake.grad.tolist() == [[-2.0], [-4.0]]


def test_anchors_use_the_mean_over_all_ranks_and_continue_from_a_checkpoint():
    built = LeCam().build(SPEC)
    logits = torch.ones(2, 1)
    elsewhere = {"mean": lambda values: values.mean(dim=0) + 6}
    built.penalty(scores_of(logits, **elsewhere), scores_of(logits))
    assert (float(built.real), float(built.fake)) == (7.0, 1.0)
    other = LeCam().build(SPEC)
    other.load_state_dict(copy.deepcopy(built.state_dict()))
    for each in (built, other):
        each.penalty(scores_of(-logits), scores_of(logits))
    assert float(built.real) == float(other.real) < 7


def test_strength_begins_after_start_kimg_and_may_be_a_schedule():
    lecam = LeCam(weight=Schedule(start=0.4, to=0.2, kimg=2.0), start_kimg=1.0)
    found = [lecam.strength(TrainingTime(images, 0.0)) for images in (0, 999, 1000, 4000)]
    torch.testing.assert_close(found, [0.0, 0.0, 0.3, 0.2])
