import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from gancore.errors import DataError
from gancore_plugins.metrics.frechet import FrechetDistance
from helpers.metric_inputs import GIVEN, exactly, normal, of_features, shuffled, vectors

METRIC = FrechetDistance(extractor=GIVEN)


def distance(fake, real):
    return METRIC.measure(of_features(fake, real)).value


@given(vectors(3, -5, 5), vectors(3, -5, 5), vectors(3, 0.2, 4), vectors(3, 0.2, 4))
@settings(max_examples=25)
def test_fd_of_normal_distributions_along_the_axes_equals_the_formula(mean_1, mean_2, deviation_1, deviation_2):
    fake, real = exactly(mean_1, (deviation_1**2).diag()), exactly(mean_2, (deviation_2**2).diag(), seed=1)
    expected = float((mean_1 - mean_2).square().sum() + (deviation_1 - deviation_2).square().sum())
    assert distance(fake, real) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_fd_of_correlated_features_equals_the_formula():
    # C1 = [[2, 1], [1, 2]] has the eigenvalues 3 and 1; against the identity: tr C1 + 2 - 2 (sqrt 3 + 1)
    covariance = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    found = distance(exactly(zero, covariance), exactly(zero, torch.eye(2, dtype=torch.float64), seed=1))
    assert found == pytest.approx(6 - 2 * (3**0.5 + 1), abs=1e-4)


@given(st.integers(0, 99))
@settings(max_examples=10)
def test_fd_is_zero_for_equal_sets_symmetric_and_independent_of_order(seed):
    first, second = normal(seed, 60, 4), normal(seed + 1, 80, 4) * 2 + 1
    assert distance(first, shuffled(seed, first)) == pytest.approx(0, abs=1e-6)
    assert distance(first, second) == pytest.approx(distance(second, first), rel=1e-6)
    assert distance(shuffled(seed, first), shuffled(seed, second)) == pytest.approx(distance(first, second), rel=1e-6)


def test_fd_equals_torchmetrics():
    class Identity(nn.Module):
        num_features = 16

        def forward(self, features):
            return features

    fake, real = normal(0, 300, 16) * 1.5, normal(1, 400, 16) + 0.3
    other = FrechetInceptionDistance(Identity())
    other.update(fake, real=False)
    other.update(real, real=True)
    assert distance(fake, real) == pytest.approx(float(other.compute()), rel=1e-5)


def test_fd_bias_is_that_of_the_docstring():
    count, dimensions = 1000, 64
    found = [
        distance(normal(2 * seed, count, dimensions), normal(2 * seed + 1, count, dimensions)) for seed in range(5)
    ]
    assert sum(found) / 5 == pytest.approx(dimensions * (dimensions + 5) / (2 * count), rel=0.1)


@pytest.mark.parametrize(("fake", "real"), [(8, 100), (100, 8), (3, 3)])
def test_fd_refuses_no_more_images_than_features(fake, real):
    with pytest.raises(DataError, match=f"more than 8 generated and real samples; received {fake} and {real}"):
        distance(normal(0, fake, 8), normal(1, real, 8))


@pytest.mark.parametrize(("fakes", "reals"), [(1000, 1000), (600, 3000)])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_fd_ideal_is_the_mean_for_equal_distributions(fakes, reals, scale):
    deviations = torch.linspace(0.1, scale, 32)
    sets = [(normal(seed, fakes, 32) * deviations, normal(seed + 50, reals, 32) * deviations) for seed in range(6)]
    found = [METRIC.measure(of_features(*pair)) for pair in sets]
    expected = sum(each.ideal["value"] for each in found) / 6
    assert sum(each.value for each in found) / 6 == pytest.approx(expected, rel=0.1)


def test_fd_refuses_one_feature():
    with pytest.raises(DataError, match="at least 2 features"):
        distance(normal(0, 9, 1), normal(1, 9, 1))


@pytest.mark.parametrize(("count", "warned"), [(9, True), (15, True), (16, False)])
def test_fd_warns_of_few_images(count, warned):
    found = METRIC.measure(of_features(normal(0, count, 8), normal(1, 50, 8)))
    assert bool(found.warnings) == warned
    assert all(f"{count} images are few for 8 features" in text for text in found.warnings)
