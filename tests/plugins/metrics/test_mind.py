import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore_plugins.metrics.sliced import MongeDistance, _distances
from helpers.metric_inputs import GIVEN, normal, of_features, shuffled


def distance(fake, real, directions=300):
    return MongeDistance(extractor=GIVEN, directions=directions).measure(of_features(fake, real)).value


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9), st.floats(-3, 3))
@settings(max_examples=25)
def test_mind_between_numbers_is_the_mean_squared_difference_of_quantiles(seed, n, m, shift):
    first, second = normal(seed, n, 1).double() + shift, normal(seed + 1, m, 1).double()
    repeated = [part.repeat_interleave(times, dim=0) for part, times in ((first, m), (second, n))]
    expected = (repeated[0].sort(dim=0).values - repeated[1].sort(dim=0).values).square().mean()
    assert float(_distances(first, second)) == pytest.approx(float(expected), abs=1e-12)


@given(st.integers(0, 99), st.floats(0.1, 5))
@settings(max_examples=10)
def test_mind_of_one_feature_is_three_times_the_squared_distance(seed, shift):
    real = normal(seed, 50, 1)
    assert distance(real + shift, real) == pytest.approx(3 * shift**2, rel=1e-4)


def test_mind_of_a_shift_and_a_scale_is_that_of_the_docstring():
    real, shift = normal(0, 4000, 8), torch.arange(8.0)
    assert distance(real + shift, real) == pytest.approx(3 * float(shift.square().sum()), rel=0.15)
    # Normal distributions with the standard deviations 1 and 2 have the squared distance 1 in every direction.
    assert distance(real * 2, real) == pytest.approx(3 * 8, rel=0.05)


def test_mind_sees_more_than_mean_and_covariance():
    real = normal(0, 2000, 2)
    signs = torch.sign(normal(1, 2000, 2))  # the same mean and covariance
    assert distance(signs, real) > 20 * distance(normal(2, 2000, 2), real)


@given(st.integers(0, 99))
@settings(max_examples=10)
def test_mind_is_zero_for_equal_sets_symmetric_and_independent_of_order(seed):
    first, second = normal(seed, 30, 4), normal(seed + 1, 45, 4) * 2 + 1
    assert distance(first, shuffled(seed, first)) == pytest.approx(0, abs=1e-12)
    assert distance(first, second) == pytest.approx(distance(second, first), rel=1e-5)
    assert distance(shuffled(seed, first), shuffled(seed, second)) == pytest.approx(distance(first, second), rel=1e-9)


def test_mind_refuses_a_single_image():
    with pytest.raises(DataError, match="at least 2 generated and real samples; received 1 and 9"):
        distance(normal(0, 1, 3), normal(1, 9, 3))
