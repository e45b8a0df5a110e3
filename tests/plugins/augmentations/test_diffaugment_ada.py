import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gancore.contracts import Scores, Spec
from gancore.errors import ConfigError
from gancore_plugins.augmentations.ada import ADA
from gancore_plugins.augmentations.diffaugment import DiffAugment

SHAPE = (1, 8, 8)
SPEC = Spec(SHAPE)


def images(count):
    return torch.rand(count, *SHAPE) + 1


def real(*logits):
    return Scores(images=images(len(logits)), logits=torch.tensor(logits).unsqueeze(1))


@given(probability=st.floats(0, 1))
def test_diffaugment_probability_is_the_share_of_augmented_images(probability):
    torch.manual_seed(0)
    batch = images(400)
    changed = DiffAugment(policy=("color", "cutout")).build(SPEC)(batch, probability)
    share = (changed != batch).flatten(1).any(dim=1).double().mean().item()
    assert share == pytest.approx(probability, abs=0.1)
    if probability in (0, 1):
        assert share == probability


@pytest.mark.parametrize("component", [DiffAugment, ADA])
def test_augmentations_refuse_vectors_and_flips_of_data_without_mirrors(component):
    with pytest.raises(ConfigError, match=r"images \(C, H, W\).*\(2,\)"):
        component().build(Spec((2,)))
    with pytest.raises(ConfigError, match="mirrored"):
        component(policy=("flip",)).build(SPEC)
    component(policy=("flip",)).build(Spec(SHAPE, mirrors=True))
    with pytest.raises(ValidationError, match="policy"):
        component(policy=())


@pytest.mark.parametrize("component", [DiffAugment, ADA])
@pytest.mark.parametrize("moving", ["translation", "flip"])
def test_augmentations_that_move_images_refuse_pictures_as_conditions(component, moving):
    with pytest.raises(ConfigError, match=f"{moving} moves images, but not the pictures") as caught:
        component(policy=("color", moving)).build(Spec(SHAPE, condition=(3, 8, 8), mirrors=True))
    assert caught.value.hint == "leave only color and cutout in the policy"
    component(policy=("color", "cutout")).build(Spec(SHAPE, condition=(3, 8, 8)))
    for condition in (10, (4,)):
        component(policy=("color", moving)).build(Spec(SHAPE, condition=condition, mirrors=True))


def test_ada_probability_rises_while_d_overfits_and_falls_again():
    controller = ADA(interval=2, ramp_kimg=0.04, target=0.6).build(SPEC)
    probabilities = []
    for logits in ([1.0, 2.0, 3.0, -1.0], [1.0, 2.0, 3.0, 4.0]) * 4 + ([-1.0, -2.0, 0.5, 1.0],) * 4:
        controller.observe(real(*logits))
        probabilities.append(round(controller.probability.item(), 6))
    # Means of sign are 0.75 and then 0; 8 of 40 images are a fifth of the way from 0 to 1.
    assert probabilities == [0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8, 0.6, 0.6, 0.4]


def test_ada_counts_images_of_a_discriminator_with_several_logits_once():
    one, three = (ADA(interval=1, ramp_kimg=0.01).build(SPEC) for _ in range(2))
    one.observe(real(1.0, 1.0))
    three.observe(Scores(images=images(2), logits=torch.ones(2, 3)))
    assert one.probability == three.probability == pytest.approx(0.2)


def test_ada_probability_stays_within_its_bounds():
    controller = ADA(interval=1, ramp_kimg=0.001, most=0.5).build(SPEC)
    controller.observe(real(1.0, 1.0, 1.0))
    assert controller.probability == 0.5
    controller.observe(real(-1.0, -1.0))
    assert controller.probability == 0


def test_ada_probability_is_applied_and_part_of_the_state():
    controller, batch = ADA(policy=("cutout",)).build(SPEC), images(200)
    assert torch.equal(controller(batch, 1.0), batch)
    controller.load_state_dict(controller.state_dict() | {"probability": torch.tensor(0.5)})
    changed = (controller(batch, 1.0) != batch).flatten(1).any(dim=1).double().mean()
    assert 0.3 < changed < 0.7
