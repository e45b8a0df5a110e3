import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.evaluation.collapse import COUNT, CollapseGuard, effective_number
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.mixtures import Grid, Ring
from helpers.metric_inputs import normal, shuffled


def points(world, labels, seed, folder):
    values, classes = world.build(folder).tensors
    return shuffled(seed, values[torch.isin(classes, torch.tensor(labels))])[:COUNT]


@given(st.integers(1, 9), st.integers(1, 5))
def test_so_many_points_far_apart_are_so_many_and_copies_of_them_are_none_more(count, copies):
    apart = torch.arange(count).float().unsqueeze(1) * 100
    assert effective_number(apart.repeat(copies, 1), 1.0) == pytest.approx(count, rel=1e-4)


def test_order_does_not_matter():
    values = normal(0, 60, 3)
    assert effective_number(values, 0.5) == pytest.approx(effective_number(shuffled(1, values), 0.5), rel=1e-4)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=7, unique=True))
def test_modes_of_the_ring_that_are_lost_lessen_the_diversity(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("ring")
    guard = CollapseGuard(points(Ring(), range(8), 0, folder))
    diversity = guard.diversity(points(Ring(), labels, 1, folder))
    assert diversity < 0.95
    assert (diversity < 0.2) == (len(labels) == 1)
    assert diversity <= guard.diversity(points(Ring(), sorted({*labels, 0, 4}), 1, folder)) + 0.02


@pytest.mark.parametrize("world", [Ring(), Grid(), Digits()], ids=lambda world: world.name)
def test_fresh_real_data_is_as_diverse_as_real_data(world, tmp_path):
    values = shuffled(0, world.build(tmp_path).tensors[0])
    guard = CollapseGuard(values[:COUNT])
    for start in range(COUNT, 5 * COUNT, COUNT):
        assert guard.diversity(values[start : start + COUNT]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("world", [Ring(), Grid(), Digits()], ids=lambda world: world.name)
def test_a_generator_of_one_thing_raises_the_alarm_at_its_second_evaluation(world, tmp_path):
    values = shuffled(0, world.build(tmp_path).tensors[0])
    guard = CollapseGuard(values[:COUNT])
    diversity = guard.diversity(values[:1].repeat(COUNT, *[1] * (values.ndim - 1)))
    assert diversity < 0.2
    assert guard.alarm(diversity) is None
    said = guard.alarm(diversity)
    assert "256 samples are in effect 1.0 different ones, where as many real images are" in said
    assert guard.alarm(diversity) is None, "said once"


@given(st.lists(st.booleans(), max_size=12))
def test_the_alarm_is_raised_once_for_each_time_that_two_in_a_row_are_low(lows):
    guard = CollapseGuard(normal(0, 20, 2))
    raised = [guard.alarm(0.1 if low else 0.9) is not None for low in lows]
    expected = [
        place >= 1 and lows[place] and lows[place - 1] and not (place >= 2 and lows[place - 2])
        for place in range(len(lows))
    ]
    assert raised == expected


@pytest.mark.parametrize("real", [torch.zeros(9, 2), torch.zeros(1, 2)])
def test_where_real_data_has_no_diversity_none_is_missed(real):
    guard = CollapseGuard(real)
    assert guard.diversity(torch.zeros(9, 2)) is None
    assert [guard.alarm(None) for _ in range(3)] == [None] * 3


def test_samples_that_are_not_finite_have_no_diversity():
    assert CollapseGuard(normal(0, 20, 2)).diversity(torch.full((20, 2), torch.nan)) == 0


def test_many_equal_images_among_the_real_ones_do_not_blind_it():
    real = torch.cat([torch.zeros(183, 8), normal(0, 73, 8) * 30])  # most pairs are no distance apart
    guard = CollapseGuard(shuffled(1, real))
    assert guard.diversity(torch.zeros(256, 8)) < 0.2
    assert guard.diversity(shuffled(2, real)) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_where_the_data_lies_makes_no_difference(offset):
    real, samples = normal(0, 256, 8), normal(1, 256, 8) * 0.3
    near, far = (CollapseGuard(real + shift).diversity(samples + shift) for shift in (0, offset))
    assert far == pytest.approx(near, rel=0.05)


def test_fewer_real_images_than_samples_are_compared_with_as_many():
    real = normal(0, 30, 2)
    assert CollapseGuard(real).diversity(torch.cat([real, normal(1, 200, 2)])) == pytest.approx(1)


@pytest.mark.parametrize("far", [1e15, 1e30, 3e38])
def test_samples_farther_away_than_squares_can_tell_are_still_looked_at(far, tmp_path):
    guard = CollapseGuard(points(Ring(), range(8), 0, tmp_path))
    one = torch.full((COUNT, 2), far)
    assert guard.diversity(one) < 0.2
    assert 0 <= guard.diversity(one * normal(0, COUNT, 2).clamp(-1, 1)) <= 1.5
