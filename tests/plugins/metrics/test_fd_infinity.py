import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore.metrics import FeatureStatistics, MetricInputs
from gancore_plugins.metrics.frechet import FrechetDistance
from gancore_plugins.metrics.frechet_infinity import FrechetDistanceAtInfinity, at_infinity
from helpers.metric_inputs import GIVEN, normal, of_features, samples, shuffled

METRIC = FrechetDistanceAtInfinity(extractor=GIVEN)
UNIT = FeatureStatistics(torch.zeros(16, dtype=torch.float64), torch.eye(16, dtype=torch.float64))


@given(st.floats(-10, 10), st.floats(-100, 100))
def test_fd_infinity_is_the_intercept_of_a_line(a, b):
    sizes = np.linspace(50, 500, 15)
    assert at_infinity(sizes, a + b / sizes) == pytest.approx(a, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_fd_infinity_has_no_bias_of_few_generated_images(shift):
    inputs = [MetricInputs(samples(normal(seed, 400, 16) + shift), statistics=UNIT) for seed in range(8)]
    found = [METRIC.measure(each) for each in inputs]
    biased = [FrechetDistance(extractor=GIVEN).measure(each).value for each in inputs]
    assert [each.details["all"] for each in found] == pytest.approx(biased, rel=1e-9)
    expected = 16 * shift**2
    assert sum(biased) / 8 > expected + 0.15
    assert sum(each.value for each in found) / 8 == pytest.approx(expected, abs=0.08)


def test_fd_infinity_does_not_depend_on_the_order_of_images():
    fake, real = normal(0, 100, 4), normal(1, 90, 4) + 1
    found = [
        METRIC.measure(of_features(*pair)).value for pair in ((fake, real), (shuffled(2, fake), shuffled(3, real)))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.parametrize(("fake", "real"), [(31, 100), (100, 8)])
def test_fd_infinity_refuses_few_images(fake, real):
    with pytest.raises(DataError, match=f"at least 32 generated and more than 8 real samples; received {fake} gen"):
        METRIC.measure(of_features(normal(0, fake, 8), normal(1, real, 8)))
    with pytest.raises(DataError, match="at least 2 features"):
        METRIC.measure(of_features(normal(0, 99, 1), normal(1, 99, 1)))
