import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore.metrics import MetricInputs
from gancore_plugins.metrics.vendi import VendiScore
from helpers.metric_inputs import GIVEN, normal, samples, shuffled


def score(features):
    return VendiScore(extractor=GIVEN).measure(MetricInputs(samples(features))).value


@given(st.integers(1, 8), st.integers(1, 5), st.floats(0.1, 10))
@settings(max_examples=20)
def test_vendi_counts_different_directions(different, copies, scale):
    features = torch.eye(8)[:different].repeat(copies, 1) * scale
    assert score(features) == pytest.approx(different, rel=1e-6)


def test_vendi_of_two_images_at_an_angle_is_the_entropy_of_its_eigenvalues():
    half = torch.tensor([[1.0, 0.0], [0.5, 3**0.5 / 2]])  # the cosine is 1/2: eigenvalues 3/4 and 1/4
    assert score(half) == pytest.approx(0.75**-0.75 * 0.25**-0.25, rel=1e-6)


@given(st.integers(0, 99), st.sampled_from([(6, 9), (9, 6)]))
@settings(max_examples=10)
def test_vendi_is_between_one_and_the_number_of_images_and_independent_of_order(seed, shape):
    features = normal(seed, *shape)
    assert 1 <= score(features) <= 6
    assert score(features) == pytest.approx(score(shuffled(seed, features)), rel=1e-9)
    assert score(torch.cat([features, features])) == pytest.approx(score(features), rel=1e-9)


def test_vendi_refuses_features_that_are_all_zero():
    with pytest.raises(DataError, match="all features are zero"):
        score(torch.zeros(5, 3))
