import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore_plugins.datasets.mixtures import Grid, Ring


@pytest.mark.parametrize(("dataset", "modes", "std"), [(Ring(), 8, 0.01), (Grid(), 25, 0.05)])
def test_ring_and_grid_defaults_are_those_of_the_papers(dataset, modes, std, tmp_path):
    built = dataset.build(tmp_path)
    points, labels = built.tensors
    assert points.shape == (100_000, 2)
    assert points.dtype == torch.float32
    assert built.mixture.centers.shape == (modes, 2)
    assert built.mixture.std == std
    assert len(built.classes) == modes
    assert labels.bincount().tolist() == [pytest.approx(100_000 / modes, rel=0.06)] * modes
    offsets = points - built.mixture.centers[labels]
    assert float(offsets.std()) == pytest.approx(std, rel=0.02)
    assert offsets.mean(dim=0).tolist() == [pytest.approx(0, abs=std / 50)] * 2


@given(st.integers(1, 40), st.floats(0.1, 9))
@settings(max_examples=20)
def test_ring_centers_are_distinct_and_evenly_spaced(modes, radius):
    centers = Ring(modes=modes, radius=radius).centers()
    assert centers.norm(dim=1).tolist() == [pytest.approx(radius, rel=1e-4)] * modes
    distances = [float((centers[index] - centers[index - 1]).norm()) for index in range(modes)]
    assert distances == [pytest.approx(2 * radius * math.sin(math.pi / modes), rel=1e-3, abs=1e-4)] * modes
    assert len({tuple(center) for center in centers.mul(1e4 / radius).round().tolist()}) == modes


@given(st.integers(1, 9), st.floats(0.1, 9))
@settings(max_examples=20)
def test_grid_centers_form_a_square_around_the_origin(side, spacing):
    centers = Grid(side=side, spacing=spacing).centers()
    assert len(centers) == side**2
    assert centers.mean(dim=0).tolist() == [pytest.approx(0, abs=1e-4)] * 2
    for axis in (0, 1):
        values = sorted(set(centers[:, axis].tolist()))
        distances = [after - before for before, after in pairwise(values)]
        assert distances == [pytest.approx(spacing, rel=1e-4)] * (side - 1)


@pytest.mark.parametrize("dataset", [Ring(count=50), Grid(count=50)], ids=lambda dataset: dataset.name)
def test_mixture_points_depend_only_on_seed_and_part(dataset, tmp_path):
    def points(**changes):
        torch.rand(1)
        return dataset.model_copy(update=changes).build(tmp_path).tensors[0]

    assert torch.equal(points(), points())
    others = [points(seed=1), points(split="test"), points(seed=1, split="test")]
    assert not any(torch.equal(points(), other) for other in others)
    assert not torch.equal(points(seed=1), points(split="test"))


def test_ring_parts_have_the_same_settings():
    ring = Ring(modes=3, radius=2.0, seed=5)
    assert ring.part("train") == ring
    assert ring.part("test") == Ring(modes=3, radius=2.0, seed=5, split="test")
