import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore_plugins.augmentations import operations

OPERATIONS = [operations.color, operations.translation, operations.cutout, operations.flip]
seeds = st.integers(0, 2**32 - 1)


def same_images(count, shape=(3, 8, 8)):
    """Copies of one image whose pixels all differ, so that all differences come from the augmentation."""
    return (torch.randperm(3 * 64).reshape(1, *shape) / 96 - 1).expand(count, *shape)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(seed=seeds, channels=st.sampled_from([1, 3, 4]), height=st.integers(1, 9), width=st.integers(1, 9))
def test_operations_keep_shape_dtype_and_their_input(operation, seed, channels, height, width):
    torch.manual_seed(seed)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        images = torch.rand(3, channels, height, width, dtype=dtype) * 2 - 1
        before = images.clone()
        changed = operation(images)
        assert (changed.shape, changed.dtype) == (images.shape, dtype)
        assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("operation", "ways"),
    [(operations.color, 40), (operations.translation, 9), (operations.cutout, 81), (operations.flip, 2)],
)
def test_operations_draw_parameters_for_each_image(operation, ways):
    torch.manual_seed(0)
    changed = operation(same_images(40))
    assert min(ways, 40) * 0.6 < len(changed.flatten(1).unique(dim=0)) <= ways


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_are_twice_differentiable(operation):
    torch.manual_seed(0)
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)

    def fixed(images):
        torch.manual_seed(1)
        return operation(images)

    assert torch.autograd.gradcheck(fixed, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(fixed, images, fast_mode=True)


@given(seeds)
def test_translation_moves_all_pixels_equally_and_fills_with_zeros(seed):
    torch.manual_seed(seed)
    (image,) = same_images(1)
    (moved,) = operations.translation(image.unsqueeze(0))
    candidates = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
            candidates.append(padded[:, 1 - down : 9 - down, 1 - right : 9 - right])
    assert any(torch.equal(moved, candidate) for candidate in candidates)


@given(seeds)
def test_cutout_hides_only_a_rectangle(seed):
    torch.manual_seed(seed)
    images = same_images(5) + 2  # no pixel is zero before
    changed = operations.cutout(images)
    hidden = changed == 0
    assert torch.equal(changed, images * ~hidden)
    for image in hidden:
        assert torch.equal(image[0], image[1])
        rows, columns = image[0].any(dim=1), image[0].any(dim=0)
        assert torch.equal(image[0], rows.unsqueeze(1) & columns)
        assert 1 <= rows.sum() <= 4
        assert 1 <= columns.sum() <= 4


@pytest.mark.parametrize("side", [5, 6, 8, 9])
def test_cutout_hides_both_sides_of_an_image_alike(side):
    torch.manual_seed(0)
    rows = (operations.cutout(torch.ones(1000, 1, side, 1)) == 0).flatten(1)
    hidden = {tuple(row) for row in rows.tolist()}
    assert hidden == {row[::-1] for row in hidden}


@given(seeds)
def test_flip_mirrors_or_keeps_images(seed):
    torch.manual_seed(seed)
    images = same_images(6)
    for before, after in zip(images, operations.flip(images), strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(2))


@given(seeds)
def test_color_keeps_the_order_of_gray_pixels_and_bounds_brightness_and_contrast(seed):
    torch.manual_seed(seed)
    images = torch.rand(4, 1, 8, 8, dtype=torch.float64) * 2 - 1
    changed = operations.color(images)
    assert torch.equal(changed.flatten(1).argsort(), images.flatten(1).argsort())
    assert (changed.mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))).abs().max() <= 0.5
    ratio = changed.flatten(1).std(dim=1) / images.flatten(1).std(dim=1)
    assert ((ratio >= 0.5 - 1e-9) & (ratio <= 1.5 + 1e-9)).all()


def test_color_keeps_alpha_and_changes_colors_as_without_it():
    images = torch.rand(4, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    changed = []
    for channels in (4, 3):
        torch.manual_seed(1)
        changed.append(operations.color(images[:, :channels]))
    assert torch.equal(changed[0][:, 3], images[:, 3])
    assert torch.equal(changed[0][:, :3], changed[1])
