import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore_plugins.metrics.clipped import ClippedCoverage, ClippedDensity, expected_coverage
from gancore_plugins.metrics.neighbors import ball_radii, count_inside
from helpers.metric_inputs import GIVEN, normal, of_features, shuffled

BOTH = (ClippedDensity, ClippedCoverage)


def measured(kind, fake, real, k=5):
    return kind(extractor=GIVEN, k=k).measure(of_features(fake, real)).value


def density_by_hand(fake, real, k):
    """The definition of Salvy et al. 2025, for each pair of images."""
    distances = [[float((x - y).norm()) for y in real] for x in real]
    radii = [sorted(row)[k] for row in distances]
    radii = [min(radius, float(np.median(radii))) for radius in radii]

    def score(image, centers):
        inside = sum(float((image - real[i]).norm()) <= radii[i] + 1e-9 for i in centers)
        return min(1, inside / k)

    of_fake = [score(image, range(len(real))) for image in fake]
    of_real = [score(real[j], [i for i in range(len(real)) if i != j]) for j in range(len(real))]
    return min(1, np.mean(of_fake) / np.mean(of_real))


@given(st.integers(0, 99), st.integers(1, 4), st.floats(0, 2))
@settings(max_examples=15)
def test_clipped_density_equals_its_definition(seed, k, shift):
    fake, real = normal(seed, 14, 2) + shift, normal(seed + 1, 11, 2)
    expected = density_by_hand(fake.double(), real.double(), k)
    assert measured(ClippedDensity, fake, real, k) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("fakes", "reals", "k"), [(60, 80, 5), (80, 40, 3), (30, 30, 1)])
def test_clipped_coverage_of_the_real_distribution_is_what_theory_expects(fakes, reals, k):
    found = []
    for seed in range(60):
        fake, real = normal(2 * seed, fakes, 2), normal(2 * seed + 1, reals, 2)
        counts = count_inside(fake, real, ball_radii(real, k))[1]
        found.append(float((counts / k).clamp(max=1).mean()))
    expected = expected_coverage(fakes, reals, k)
    assert np.mean(found) == pytest.approx(expected[-1], abs=0.015)
    assert expected[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(expected) > 0).all()
    # One good image is in a ball with probability k / M.
    assert expected[1] == pytest.approx(1 / reals, rel=1e-6)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("bad", [0.25, 0.5, 0.75])
def test_clipped_scores_are_the_share_of_good_images(kind, bad):
    fake, real = normal(0, 800, 3), normal(1, 800, 3)
    fake[: round(bad * len(fake))] += 100
    assert measured(kind, fake, real) == pytest.approx(1 - bad, abs=0.07)


@pytest.mark.parametrize("kind", BOTH)
def test_clipped_scores_are_zero_for_distant_images_and_about_one_for_others(kind):
    real = normal(0, 300, 4)
    assert measured(kind, real + 100, real) == 0
    assert measured(kind, real.clone(), real) == 1
    assert measured(kind, normal(1, 300, 4), real) > 0.9


def test_clipped_coverage_is_not_raised_by_copies_and_clipped_density_is_not():
    real = normal(0, 400, 2)
    copies = normal(1, 40, 2).repeat(10, 1)
    assert measured(ClippedCoverage, copies, real) < 0.5
    assert measured(ClippedDensity, real.mean(dim=0).repeat(400, 1), real) == 1


def test_clipped_density_is_not_raised_by_outliers_among_real_images():
    real, fake = normal(0, 300, 2), normal(1, 300, 2) * 0.1 + 30
    outliers = torch.tensor([[60.0, 0.0], [0.0, 60.0], [60.0, 60.0]])
    assert measured(ClippedDensity, fake, torch.cat([real, outliers])) == 0


@pytest.mark.parametrize("kind", BOTH)
def test_clipped_scores_do_not_depend_on_the_order_of_images(kind):
    fake, real = normal(0, 90, 4) + 0.7, normal(1, 80, 4)
    assert measured(kind, fake, real) == measured(kind, shuffled(2, fake), shuffled(3, real))


@pytest.mark.parametrize("kind", BOTH)
def test_clipped_scores_refuse_no_more_images_than_neighbors(kind):
    with pytest.raises(DataError, match="more than 5 generated and real samples; received 5 and 50"):
        measured(kind, normal(0, 5, 2), normal(1, 50, 2))
