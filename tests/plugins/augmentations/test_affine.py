"""Closed forms of the affine operations, and properties of the resampling."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from gancore_plugins.augmentations import affine

sides = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=12)


def images(count=2, channels=3, height=8, width=8, dtype=torch.float64):
    return torch.rand(count, channels, height, width, dtype=dtype) * 2 - 1


def each(*values):
    return torch.tensor(values, dtype=torch.float64)


def smooth(size=32, count=1):
    """Images of a few slow waves, which any resampling keeps."""
    position = torch.arange(size, dtype=torch.float64) * math.pi / (size - 1)
    return (position.cos()[:, None] + 0.5 * (2 * position).cos()).expand(count, 1, size, size)


def close(found, expected, atol=1e-9):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@FEW
@given(height=sides, width=sides, channels=st.integers(1, 4), seed=seeds)
def test_resample_with_the_identity_keeps_images(height, width, channels, seed):
    torch.manual_seed(seed)
    batch = images(2, channels, height, width)
    close(affine.resample(batch, affine.identity(batch)), batch)
    close(affine.resample(batch.float(), affine.identity(batch.float())), batch.float(), atol=1e-5)


def test_quarter_turns_are_those_of_torch_and_each_image_has_its_own():
    batch = images(4)
    turned = affine.resample(batch, affine.quarter_turns(each(0, 1, 2, 3)))
    for turns in range(4):
        close(turned[turns], batch[turns].rot90(turns, (1, 2)))


def test_rotation_by_right_angles_equals_quarter_turns():
    batch = images(4)
    turned = affine.resample(batch, affine.rotation(each(0, 1, 2, -1) * math.pi / 2))
    close(turned, affine.resample(batch, affine.quarter_turns(each(0, 1, 2, 3))))


@FEW
@given(height=sides, width=sides)
def test_half_turns_of_any_shape_are_those_of_torch(height, width):
    batch = images(1, 2, height, width)
    close(affine.resample(batch, affine.quarter_turns(each(2))), batch.flip(2, 3))


@FEW
@given(height=sides, width=sides)
def test_flip_mirrors_chosen_images(height, width):
    batch = images(2, 2, height, width)
    close(affine.resample(batch, affine.flip(each(1, 0))), torch.stack([batch[0].flip(2), batch[1]]))


@FEW
@given(right=st.integers(-6, 6), down=st.integers(-4, 4))
def test_translation_by_whole_pixels_is_exact_and_shows_reflections(right, down):
    batch = images(1, 2, 5, 7)
    padded = pad(batch, (6, 6, 4, 4), mode="reflect")
    expected = padded[:, :, 4 - down : 9 - down, 6 - right : 13 - right]
    close(affine.resample(batch, affine.translation(each(right), each(down))), expected)


def test_translation_far_beyond_the_image_shows_reflections_of_reflections():
    batch = images(1, 1, 5, 5)
    close(affine.resample(batch, affine.translation(each(8), each(-16))), batch)  # 8 pixels are a period


@pytest.mark.parametrize("side", [16, 17])
def test_scaling_is_about_the_center_and_keeps_smooth_images(side):
    position = torch.linspace(-1, 1, side, dtype=torch.float64)
    batch = (position[:, None] ** 2 - 0.5 * position).expand(1, 1, side, side)
    for factor in (1.25, 2.0):
        enlarged = affine.resample(batch, affine.scaling(each(factor), each(factor)))
        close(enlarged[0, 0], (position[:, None] / factor) ** 2 - 0.5 * position / factor, atol=0.02)


def test_matrices_of_a_chain_are_multiplied_in_the_order_of_the_operations():
    batch = images(1)
    turn, move = affine.quarter_turns(each(1)), affine.translation(each(2), each(0))
    one_by_one = affine.resample(affine.resample(batch, turn), move)
    close(affine.resample(batch, turn @ move), one_by_one)
    assert not torch.allclose(affine.resample(batch, move @ turn), one_by_one)


@pytest.mark.parametrize("angle", [0.3, 2.0])
def test_rotation_there_and_back_keeps_the_middle_of_smooth_images(angle):
    batch = smooth()
    there = affine.resample(batch, affine.rotation(each(angle)))
    back = affine.resample(there, affine.rotation(each(-angle)))
    middle = slice(10, 22)
    close(back[..., middle, middle], batch[..., middle, middle], atol=0.02)
    assert (there - batch)[..., middle, middle].abs().max() > 0.2


@pytest.mark.parametrize("factor", [0.5, 0.6, 0.75])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_shrinking_does_not_alias(factor, axis):
    # Stripes that are too fine for the result vanish; with bilinear sampling of the image they become coarse stripes.
    frequency = 0.98 * math.pi
    stripes = (torch.arange(64, dtype=torch.float64) * frequency).cos().expand(1, 1, 64, 64)
    factors = (each(factor), each(1))
    if axis == "y":
        stripes, factors = stripes.mT, factors[::-1]
    shrunk = affine.resample(stripes, affine.scaling(*factors))
    assert shrunk.square().mean() < 0.02 * stripes.square().mean()
    grid = affine.scaling(*factors)[:, :2]
    grid = torch.nn.functional.affine_grid(grid, [1, 1, 64, 64], align_corners=True)
    naive = torch.nn.functional.grid_sample(stripes, grid, padding_mode="reflection", align_corners=True)
    assert naive.square().mean() > 5 * shrunk.square().mean()


@FEW
@given(right=st.integers(-3, 3), down=st.integers(-3, 3), fraction=st.floats(0, 1))
def test_resampling_is_equivariant_to_shifts(right, down, fraction):
    # The result of a shifted image is the shifted result, far from the border.
    torch.manual_seed(0)
    batch = images(1, 1, 24, 24)
    matrix = affine.translation(each(fraction), each(1 - fraction))
    shifted = affine.resample(batch.roll((down, right), (2, 3)), matrix)
    middle = slice(9, 15)
    close(
        shifted[..., middle, middle],
        affine.resample(batch, matrix).roll((down, right), (2, 3))[..., middle, middle],
    )


def test_resample_of_a_constant_is_constant_under_any_matrix():
    torch.manual_seed(0)
    batch = torch.full((8, 1, 6, 9), 0.7, dtype=torch.float64)
    matrices = affine.identity(batch).clone()
    matrices[:, :2] += torch.randn(8, 2, 3, dtype=torch.float64)
    close(affine.resample(batch, matrices), batch)


def test_resample_is_linear_and_differentiable_twice():
    torch.manual_seed(0)
    batch = images(2, 1, 4, 5).requires_grad_()
    matrix = affine.rotation(each(0.4, 1.0)) @ affine.scaling(each(0.7, 1.2), each(1.1, 0.8))
    assert torch.autograd.gradcheck(lambda batch: affine.resample(batch, matrix), batch, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda batch: affine.resample(batch, matrix) ** 3, batch, fast_mode=True)
    other = images(2, 1, 4, 5)
    close(
        affine.resample(batch + 2 * other, matrix),
        affine.resample(batch, matrix) + 2 * affine.resample(other, matrix),
    )
