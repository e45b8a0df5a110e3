"""Closed forms of the maps of colors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore_plugins.augmentations import colors

numbers = st.floats(-2, 2)


def each(*values):
    return torch.tensor(values, dtype=torch.float64)


def images(count=2, channels=3):
    return torch.rand(count, channels, 3, 4, dtype=torch.float64) * 2 - 1


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@settings(max_examples=12)
@given(first=numbers, second=numbers)
def test_brightness_adds_and_contrast_multiplies_for_each_image(first, second):
    batch, amounts = images(), each(first, second)
    close(colors.recolor(batch, colors.brightness(amounts)), batch + amounts[:, None, None, None])
    close(colors.recolor(batch, colors.contrast(amounts)), batch * amounts[:, None, None, None])


def test_luma_flip_negates_gray_keeps_the_rest_and_is_its_own_inverse():
    batch, flip = images(), colors.luma_flip(each(1, 1))
    luma = batch.mean(dim=1, keepdim=True)
    close(colors.recolor(batch, flip), batch - 2 * luma)
    close(colors.recolor(batch, flip @ flip), batch)
    close(colors.recolor(batch, colors.luma_flip(each(0, 0))), batch)


def test_hue_by_a_third_of_a_circle_exchanges_channels_and_by_a_circle_is_the_identity():
    batch = images(3)
    turned = colors.recolor(batch, colors.hue(each(2 * math.pi, 2 * math.pi / 3, -2 * math.pi / 3)))
    close(turned[0], batch[0])
    close(turned[1], batch[1].roll(1, 0))
    close(turned[2], batch[2].roll(-1, 0))


@settings(max_examples=12)
@given(angle=st.floats(-math.pi, math.pi))
def test_hue_keeps_gray_luma_and_distances_from_gray(angle):
    batch = images()
    turned = colors.recolor(batch, colors.hue(each(angle, angle)))
    close(turned.mean(dim=1), batch.mean(dim=1))
    close(turned.square().sum(dim=1), batch.square().sum(dim=1))
    gray = batch[:, :1].expand(-1, 3, -1, -1)
    close(colors.recolor(gray, colors.hue(each(angle, angle))), gray)


def test_saturation_scales_the_distance_from_gray():
    batch = images(3)
    gray = batch.mean(dim=1, keepdim=True)
    factors = each(0, 1, 2.5)
    changed = colors.recolor(batch, colors.saturation(factors))
    close(changed, gray + factors[:, None, None, None] * (batch - gray))


def chain():
    """All five operations, the last one first."""
    return (
        colors.saturation(each(0.5, 2)),
        colors.hue(each(1, -2)),
        colors.luma_flip(each(1, 0)),
        colors.contrast(each(0.7, 1.5)),
        colors.brightness(each(0.3, -0.2)),
    )


def test_matrices_of_a_chain_are_multiplied_with_the_last_operation_first():
    maps = chain()
    batch = images()
    one_by_one = batch
    for matrix in reversed(maps):
        one_by_one = colors.recolor(one_by_one, matrix)
    product = maps[0] @ maps[1] @ maps[2] @ maps[3] @ maps[4]
    close(colors.recolor(batch, product), one_by_one)


def test_gray_images_change_as_color_images_of_equal_channels_do():
    maps = chain()
    gray = images(channels=1)
    for matrix in maps:
        changed = colors.recolor(gray.expand(-1, 3, -1, -1), matrix)
        close(colors.recolor(gray, matrix), changed[:, :1])


def test_alpha_is_not_recolored():
    maps = chain()
    batch = images(channels=4)
    for matrix in maps:
        changed = colors.recolor(batch, matrix)
        assert torch.equal(changed[:, 3], batch[:, 3])
        close(changed[:, :3], colors.recolor(batch[:, :3], matrix))


@pytest.mark.parametrize("channels", colors.CHANNELS)
def test_recolor_is_differentiable_twice(channels):
    maps = chain()
    batch = images(channels=channels).requires_grad_()
    matrix = maps[0] @ maps[2] @ maps[4]
    assert torch.autograd.gradcheck(lambda batch: colors.recolor(batch, matrix), batch, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda batch: colors.recolor(batch, matrix) ** 3, batch, fast_mode=True)
