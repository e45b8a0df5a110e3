import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.contracts import Mixture
from gancore.errors import ConfigError
from gancore.metrics import MetricInputs, Samples
from gancore_plugins.datasets.mixtures import Grid, Ring
from gancore_plugins.metrics.modes import Modes
from helpers.metric_inputs import GIVEN, of_classes, shuffled

SQUARE = Mixture(torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]]), std=0.5)


def measured(points, mixture=SQUARE):
    return Modes().measure(MetricInputs(Samples(points), mixture=mixture))


@given(st.lists(st.integers(0, 7), min_size=4, max_size=4), st.integers(0, 5))
def test_modes_counts_samples_at_known_centers(counts, strays):
    points = torch.cat([SQUARE.centers.repeat_interleave(torch.tensor(counts), dim=0), torch.full((strays, 2), 5.0)])
    if len(points) == 0:
        return
    found = measured(points)
    good = sum(counts)
    assert found.value == sum(count > 0 for count in counts)
    assert found.details["high_quality"] == good / len(points)
    if good == 0:
        assert math.isnan(found.details["reverse_kl"])
        return
    shares = [count / good for count in counts]
    assert found.details["rarest_share"] == pytest.approx(min(shares))
    expected = sum(share * math.log(4 * share) for share in shares if share)
    assert found.details["reverse_kl"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("deviations", "good"), [(2.99, 1), (3.01, 0)])
def test_modes_high_quality_is_within_three_standard_deviations(deviations, good):
    angle = torch.tensor(0.7)
    point = 10 + 0.5 * deviations * torch.stack([angle.cos(), angle.sin()])
    assert measured(point.unsqueeze(0)).details["high_quality"] == good


def test_modes_does_not_depend_on_the_order_of_samples():
    points = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 10
    assert measured(points) == measured(shuffled(1, points))


@pytest.mark.parametrize(("dataset", "modes", "expected_kl"), [(Ring(), 8, 0.0014), (Grid(), 25, 0.0048)])
def test_modes_ideal_is_the_value_for_real_points(dataset, modes, expected_kl, tmp_path):
    built = dataset.build(tmp_path)
    found = measured(built.tensors[0][:2500], built.mixture)
    assert found.value == pytest.approx(found.ideal["value"]) == modes
    assert found.ideal["high_quality"] == pytest.approx(1 - math.exp(-4.5))
    assert found.details["high_quality"] == pytest.approx(0.9889, abs=0.008)
    assert found.ideal["reverse_kl"] == pytest.approx(expected_kl, rel=0.05)
    assert found.details["reverse_kl"] < 4 * expected_kl


@pytest.mark.parametrize("good", [0, 5, 2500])
def test_modes_ideal_does_not_depend_on_the_samples(good, tmp_path):
    built = Ring().build(tmp_path)
    points = built.tensors[0][:2500].clone()
    points[good:] = 50
    found = measured(points, built.mixture)
    assert found.details["high_quality"] == pytest.approx(good / 2500, abs=0.02)
    assert found.ideal["value"] == pytest.approx(8)
    assert found.ideal["reverse_kl"] == pytest.approx(7 / (2 * 2500 * (1 - math.exp(-4.5))))


@pytest.mark.parametrize("kept", [1, 3, 8])
def test_modes_counts_lost_modes_of_the_ring(kept, tmp_path):
    built = Ring().build(tmp_path)
    points, labels = built.tensors
    found = measured(points[labels < kept][:2500], built.mixture)
    assert found.value == kept
    assert found.details["reverse_kl"] == pytest.approx(math.log(8 / kept), abs=0.02)
    assert (found.details["rarest_share"] == 0) == (kept < 8)


def test_modes_with_an_extractor_counts_classes_of_all_samples():
    found = Modes(extractor=GIVEN).measure(MetricInputs(of_classes([0, 0, 1, 4], 5)))
    assert found.value == 3
    assert "high_quality" not in found.details
    assert found.details["rarest_share"] == 0
    assert found.ideal == {"value": pytest.approx(5 * (1 - 0.8**4))}
    assert found.warnings == ("4 samples are few for 5 modes; use 50 or more",)


@pytest.mark.parametrize("count", [300, 1000, 5000])
def test_modes_ideal_is_the_mean_for_equal_modes(count):
    labels = torch.randint(100, (count,), generator=torch.Generator().manual_seed(count))
    found = Modes(extractor=GIVEN).measure(MetricInputs(of_classes(labels, 100)))
    assert found.value == pytest.approx(found.ideal["value"], abs=4)
    assert bool(found.warnings) == (count < 1000)
    if not found.warnings:
        assert found.details["reverse_kl"] == pytest.approx(found.ideal["reverse_kl"], rel=0.4)


def test_modes_refuses_data_without_mixture_and_classes():
    with pytest.raises(ConfigError, match="known mixture"):
        measured(torch.zeros(3, 2), None)
