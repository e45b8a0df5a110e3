import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gancore.contracts import Spec
from gancore.errors import ConfigError
from gancore_plugins.augmentations.diffaugment import DiffAugment

SHAPE = (1, 8, 8)
SPEC = Spec(SHAPE)


@given(probability=st.floats(0, 1))
def test_diffaugment_probability_is_the_share_of_augmented_images(probability):
    torch.manual_seed(0)
    batch = torch.rand(400, *SHAPE) + 1
    changed = DiffAugment(policy=("color", "cutout")).build(SPEC)(batch, probability)
    share = (changed != batch).flatten(1).any(dim=1).double().mean().item()
    assert share == pytest.approx(probability, abs=0.1)
    if probability in (0, 1):
        assert share == probability


def test_diffaugment_refuses_vectors_and_flips_of_data_without_mirrors():
    with pytest.raises(ConfigError, match=r"images \(C, H, W\).*\(2,\)"):
        DiffAugment().build(Spec((2,)))
    with pytest.raises(ConfigError, match="mirrored"):
        DiffAugment(policy=("flip",)).build(SPEC)
    DiffAugment(policy=("flip",)).build(Spec(SHAPE, mirrors=True))
    with pytest.raises(ValidationError, match="policy"):
        DiffAugment(policy=())


@pytest.mark.parametrize("channels", [2, 5])
def test_diffaugment_of_colors_refuses_channels_that_are_no_colors(channels):
    with pytest.raises(ConfigError, match=f"color needs images of 1, 3 or 4 channels.*; these have {channels}"):
        DiffAugment(policy=("color",)).build(Spec((channels, 8, 8)))
    DiffAugment(policy=("translation", "cutout")).build(Spec((channels, 8, 8)))


@pytest.mark.parametrize("moving", ["translation", "flip"])
def test_diffaugment_that_moves_images_refuses_pictures_as_conditions(moving):
    with pytest.raises(ConfigError, match=f"{moving} moves images, but not the pictures") as caught:
        DiffAugment(policy=("color", moving)).build(Spec(SHAPE, condition=(3, 8, 8), mirrors=True))
    assert caught.value.hint == "leave only color and cutout in the policy"
    DiffAugment(policy=("color", "cutout")).build(Spec(SHAPE, condition=(3, 8, 8)))
    for condition in (10, (4,)):
        DiffAugment(policy=("color", moving)).build(Spec(SHAPE, condition=condition, mirrors=True))
