import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore_plugins.metrics.neighbors import Coverage, Density, Precision, Recall, count_balls
from helpers.metric_inputs import GIVEN, normal, of_features, shuffled

FOUR = (Precision, Recall, Density, Coverage)


def measured(kind, fake, real, k=3):
    return kind(extractor=GIVEN, k=k).measure(of_features(fake, real)).value


def by_hand(fake, real, k):
    """Density and coverage by the definition of Naeem et al. 2020, for each pair of images."""
    radii = [sorted(float((x - y).norm()) for y in real)[k] for x in real]
    inside = [[float((x - y).norm()) <= r for x, r in zip(real, radii, strict=True)] for y in fake]
    density = sum(map(sum, inside)) / (k * len(fake))
    coverage = sum(any(column) for column in zip(*inside, strict=True)) / len(real)
    return density, coverage


@given(st.integers(0, 99), st.integers(1, 4), st.floats(0, 3))
@settings(max_examples=20)
def test_density_and_coverage_equal_their_definition(seed, k, shift):
    fake, real = normal(seed, 14, 2) + shift, normal(seed + 1, 11, 2)
    density, coverage = by_hand(fake.double(), real.double(), k)
    assert measured(Density, fake, real, k) == pytest.approx(density)
    assert measured(Coverage, fake, real, k) == pytest.approx(coverage)


@given(st.integers(0, 99), st.integers(1, 6), st.floats(0, 3))
@settings(max_examples=20)
def test_density_balls_are_those_of_torch_fidelity(seed, k, shift):
    fake, real = normal(seed, 150, 4) + shift, normal(seed + 1, 120, 4)
    counts, _ = count_balls(fake, real, k)
    assert measured(Precision, fake, real, k) == pytest.approx(float((counts > 0).double().mean()), abs=1e-6)
    counts, _ = count_balls(real, fake, k)
    assert measured(Recall, fake, real, k) == pytest.approx(float((counts > 0).double().mean()), abs=1e-6)


@pytest.mark.parametrize("kind", FOUR)
def test_neighbor_metrics_do_not_depend_on_the_order_of_images(kind):
    fake, real = normal(0, 90, 4) + 0.7, normal(1, 80, 4)
    assert measured(kind, fake, real) == measured(kind, shuffled(2, fake), shuffled(3, real))


@pytest.mark.parametrize("kind", FOUR)
@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_neighbor_metrics_do_not_depend_on_the_mean_of_features(kind, offset):
    fake, real = normal(0, 90, 8) + 0.3, normal(1, 80, 8)
    assert measured(kind, fake + offset, real + offset) == pytest.approx(measured(kind, fake, real), abs=0.03)


@pytest.mark.parametrize("kind", FOUR)
def test_neighbor_metrics_are_zero_for_distant_images_and_one_for_a_copy(kind):
    real = normal(0, 100, 4)
    assert measured(kind, real + 100, real) == 0
    copy = measured(kind, real.clone(), real)
    assert copy >= 1 if kind is Density else copy == 1


def test_coverage_falls_with_every_lost_mode_and_precision_does_not():
    centers = torch.arange(6).float().unsqueeze(1) * 50
    real = (centers.unsqueeze(1) + normal(0, 6 * 40, 2).view(6, 40, 2)).flatten(0, 1)
    fresh = centers.unsqueeze(1) + normal(1, 6 * 40, 2).view(6, 40, 2)
    found = [measured(Coverage, fresh[:kept].flatten(0, 1), real) for kept in range(1, 7)]
    assert found == sorted(found)
    assert all(coverage <= kept / 6 for coverage, kept in zip(found, range(1, 7), strict=True))
    assert all(measured(Precision, fresh[:kept].flatten(0, 1), real) > 0.85 for kept in range(1, 7))


def test_coverage_is_robust_to_an_outlier_and_recall_is_not():
    real, fake = normal(0, 200, 2), normal(1, 50, 2) * 0.05
    with_outlier = torch.cat([fake, torch.full((1, 2), 60.0)])
    assert measured(Recall, with_outlier, real) > measured(Recall, fake, real) + 0.4
    assert measured(Coverage, with_outlier, real) == pytest.approx(measured(Coverage, fake, real), abs=0.01)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("fakes", "reals"), [(1500, 1500), (500, 1500), (1500, 500)])
def test_density_and_coverage_ideal_is_the_mean_for_equal_distributions(k, fakes, reals):
    for kind, tolerance in ((Density, 0.08), (Coverage, 0.04)):
        measurement = kind(extractor=GIVEN, k=k).measure(of_features(normal(0, fakes, 3), normal(1, reals, 3)))
        assert measurement.value == pytest.approx(measurement.ideal["value"], abs=tolerance)
        if fakes == reals:
            assert measurement.ideal["value"] == pytest.approx(1 if kind is Density else 1 - 0.5**k, abs=0.001)


@pytest.mark.parametrize("kind", FOUR)
@pytest.mark.parametrize(("fake", "real"), [(3, 50), (50, 3)])
def test_neighbor_metrics_refuse_no_more_images_than_neighbors(kind, fake, real):
    with pytest.raises(DataError, match=f"more than 3 generated and real samples; received {fake} and {real}"):
        measured(kind, normal(0, fake, 2), normal(1, real, 2))


def test_neighbor_metrics_compute_shared_values_once():
    inputs = of_features(normal(0, 50, 2), normal(1, 50, 2))
    for kind in (Precision, Recall, Density, Coverage):
        kind(extractor=GIVEN, k=3).measure(inputs)
    assert set(inputs._cache) == {("precision and recall", 3), ("density and coverage", 3)}
    Precision(extractor=GIVEN, k=4).measure(inputs)
    assert ("precision and recall", 4) in inputs._cache
