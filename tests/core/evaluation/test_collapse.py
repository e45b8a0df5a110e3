import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.evaluation.collapse import SAMPLE_COUNT, CollapseGuard, effective_number
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.mixtures import Grid, Ring
from helpers.metric_inputs import normal, shuffled


def points(dataset, labels, seed, folder):
    values, classes = dataset.build(folder).tensors
    return shuffled(seed, values[torch.isin(classes, torch.tensor(labels))])[:SAMPLE_COUNT]


@given(st.integers(1, 9), st.integers(1, 5))
def test_effective_number_counts_distinct_points_not_copies(count, copies):
    distant = torch.arange(count).float().unsqueeze(1) * 100
    assert effective_number(distant.repeat(copies, 1), 1.0) == pytest.approx(count, rel=1e-4)


def test_effective_number_does_not_depend_on_order():
    values = normal(0, 60, 3)
    assert effective_number(values, 0.5) == pytest.approx(effective_number(shuffled(1, values), 0.5), rel=1e-4)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=7, unique=True))
def test_diversity_decreases_with_lost_modes_of_the_ring(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("ring")
    guard = CollapseGuard(points(Ring(), range(8), 0, folder))
    diversity = guard.diversity(points(Ring(), labels, 1, folder))
    assert diversity < 0.95
    assert (diversity < 0.2) == (len(labels) == 1)
    assert diversity <= guard.diversity(points(Ring(), sorted({*labels, 0, 4}), 1, folder)) + 0.02


@pytest.mark.parametrize("dataset", [Ring(), Grid(), Digits()], ids=lambda dataset: dataset.name)
def test_diversity_of_other_real_data_is_one(dataset, tmp_path):
    values = shuffled(0, dataset.build(tmp_path).tensors[0])
    guard = CollapseGuard(values[:SAMPLE_COUNT])
    for start in range(SAMPLE_COUNT, 5 * SAMPLE_COUNT, SAMPLE_COUNT):
        assert guard.diversity(values[start : start + SAMPLE_COUNT]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("dataset", [Ring(), Grid(), Digits()], ids=lambda dataset: dataset.name)
def test_alarm_is_raised_at_the_second_evaluation_of_identical_samples(dataset, tmp_path):
    values = shuffled(0, dataset.build(tmp_path).tensors[0])
    guard = CollapseGuard(values[:SAMPLE_COUNT])
    diversity = guard.diversity(values[:1].repeat(SAMPLE_COUNT, *[1] * (values.ndim - 1)))
    assert diversity < 0.2
    assert guard.alarm(diversity) is None
    warning = guard.alarm(diversity)
    assert "256 samples have an effective number of 1.0 distinct ones, as many real ones have" in warning
    assert guard.alarm(diversity) is None, "not repeated"


@given(st.lists(st.booleans(), max_size=12))
def test_alarm_is_raised_once_per_series_of_low_values(lows):
    guard = CollapseGuard(normal(0, 20, 2))
    raised = [guard.alarm(0.1 if low else 0.9) is not None for low in lows]
    expected = [i >= 1 and lows[i] and lows[i - 1] and not (i >= 2 and lows[i - 2]) for i in range(len(lows))]
    assert raised == expected


@pytest.mark.parametrize("real", [torch.zeros(9, 2), torch.zeros(1, 2)])
def test_diversity_is_unknown_if_real_data_has_none(real):
    guard = CollapseGuard(real)
    assert guard.diversity(torch.zeros(9, 2)) is None
    assert [guard.alarm(None) for _ in range(3)] == [None] * 3


def test_diversity_of_samples_that_are_not_finite_is_zero():
    assert CollapseGuard(normal(0, 20, 2)).diversity(torch.full((20, 2), torch.nan)) == 0


def test_diversity_ignores_duplicates_among_real_images():
    real = torch.cat([torch.zeros(183, 8), normal(0, 73, 8) * 30])  # most pairs are at distance 0
    guard = CollapseGuard(shuffled(1, real))
    assert guard.diversity(torch.zeros(256, 8)) < 0.2
    assert guard.diversity(shuffled(2, real)) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_diversity_does_not_depend_on_the_offset_of_the_data(offset):
    real, samples = normal(0, 256, 8), normal(1, 256, 8) * 0.3
    near, far = (CollapseGuard(real + shift).diversity(samples + shift) for shift in (0, offset))
    assert far == pytest.approx(near, rel=0.05)


def test_diversity_uses_as_many_samples_as_real_images():
    real = normal(0, 30, 2)
    assert CollapseGuard(real).diversity(torch.cat([real, normal(1, 200, 2)])) == pytest.approx(1)


@pytest.mark.parametrize("far", [1e15, 1e30, 3e38])
def test_diversity_is_finite_for_samples_whose_squared_distances_overflow(far, tmp_path):
    guard = CollapseGuard(points(Ring(), range(8), 0, tmp_path))
    one = torch.full((SAMPLE_COUNT, 2), far)
    assert guard.diversity(one) < 0.2
    assert 0 <= guard.diversity(one * normal(0, SAMPLE_COUNT, 2).clamp(-1, 1)) <= 1.5
