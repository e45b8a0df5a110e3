import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore_plugins.datasets.mixtures import Grid, Ring


@pytest.mark.parametrize(("world", "modes", "std"), [(Ring(), 8, 0.01), (Grid(), 25, 0.05)])
def test_the_worlds_are_those_of_the_papers(world, modes, std, tmp_path):
    built = world.build(tmp_path)
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
def test_the_centers_of_a_ring_are_distinct_and_evenly_around_it(modes, radius):
    centers = Ring(modes=modes, radius=radius).centers()
    assert centers.norm(dim=1).tolist() == [pytest.approx(radius, rel=1e-4)] * modes
    apart = [float((centers[place] - centers[place - 1]).norm()) for place in range(modes)]
    assert apart == [pytest.approx(2 * radius * math.sin(math.pi / modes), rel=1e-3, abs=1e-4)] * modes
    assert len({tuple(center) for center in centers.mul(1e4 / radius).round().tolist()}) == modes


@given(st.integers(1, 9), st.floats(0.1, 9))
@settings(max_examples=20)
def test_the_centers_of_a_grid_are_a_square_around_the_middle(side, spacing):
    centers = Grid(side=side, spacing=spacing).centers()
    assert len(centers) == side**2
    assert centers.mean(dim=0).tolist() == [pytest.approx(0, abs=1e-4)] * 2
    for axis in (0, 1):
        values = sorted(set(centers[:, axis].tolist()))
        apart = [after - before for before, after in pairwise(values)]
        assert apart == [pytest.approx(spacing, rel=1e-4)] * (side - 1)


@pytest.mark.parametrize("world", [Ring(count=50), Grid(count=50)], ids=lambda world: world.name)
def test_points_depend_on_seed_and_part_and_on_nothing_else(world, tmp_path):
    def points(**changes):
        torch.rand(1)
        return world.model_copy(update=changes).build(tmp_path).tensors[0]

    assert torch.equal(points(), points())
    others = [points(seed=1), points(split="test"), points(seed=1, split="test")]
    assert not any(torch.equal(points(), other) for other in others)
    assert not torch.equal(points(seed=1), points(split="test"))


def test_the_parts_are_of_one_world():
    ring = Ring(modes=3, radius=2.0, seed=5)
    assert ring.part("train") == ring
    assert ring.part("test") == Ring(modes=3, radius=2.0, seed=5, split="test")
