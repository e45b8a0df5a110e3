"""The operations of ADA, the share of images that they change, and the probability that adapts."""

import math

import pytest
import torch
from pydantic import ValidationError

from gancore.contracts import Scores, Spec
from gancore.errors import ConfigError
from gancore_plugins.augmentations import ada_operations
from gancore_plugins.augmentations.ada import ADA

COLORED = Spec((3, 8, 8), mirrors=True)
GRAY = Spec((1, 8, 8))
SINGLE = (*ada_operations.MOVING, *ada_operations.COLORING, "noise", "cutout")


def images(count, shape=(3, 8, 8)):
    return torch.rand(count, *shape) + 1


def real(*logits):
    return Scores(images=images(len(logits)), logits=torch.tensor(logits).unsqueeze(1))


def changed(names, probability, batch):
    augmented = ada_operations.augmented(batch, names, torch.tensor(probability))
    return (augmented != batch).flatten(1).any(dim=1)


def test_ada_at_probability_zero_keeps_images_bit_for_bit():
    batch = images(16)
    assert torch.equal(ADA(policy=SINGLE).build(COLORED)(batch, 1.0), batch)
    assert torch.equal(ADA(policy=SINGLE, start=0.8).build(COLORED)(batch, 0.0), batch)


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_ada_operation_changes_as_many_images_as_its_probability_says(name):
    torch.manual_seed(0)
    expected = {"flip": 1 / 2, "rotate90": 3 / 4, "luma-flip": 1 / 2, "translation": 3 / 4}.get(name, 1)
    for probability in (0.5, 1.0):
        share = changed({name}, probability, images(400)).double().mean().item()
        assert share == pytest.approx(probability * expected, abs=0.07)


def test_ada_operations_apply_independently():
    torch.manual_seed(0)
    share = changed({"brightness", "contrast"}, 0.5, images(600)).double().mean().item()
    assert share == pytest.approx(3 / 4, abs=0.06)


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_ada_draws_parameters_for_each_image(name):
    torch.manual_seed(0)
    copies = images(1).expand(12, -1, -1, -1)
    augmented = ada_operations.augmented(copies, {name}, torch.tensor(1.0))
    assert len(augmented.flatten(1).unique(dim=0)) > (1 if name in ("flip", "luma-flip") else 3)


def test_ada_distributions_are_those_of_the_paper():
    torch.manual_seed(0)
    many = ada_operations._Draw(torch.zeros(20_000, 1, 16, 32), torch.tensor(1.0))
    assert many.factor(0.2).log().std().item() == pytest.approx(0.2 * math.log(2), rel=0.03)
    right, down = many.shift()
    assert (right.std().item(), down.std().item()) == pytest.approx((4, 2), rel=0.03)
    right, down = many.pixels()
    assert (right.abs().max(), down.abs().max()) == (4, 2)
    assert set(right.unique().tolist()) == set(range(-4, 5))
    angle = many.angle()
    assert angle.abs().max() <= math.pi
    assert angle.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.03)
    assert set(many.turns().unique().tolist()) == {0, 2}  # the image is not square


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (4, 8, 8), (3, 5, 9), (1, 1, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_ada_keeps_shape_dtype_and_its_input(shape, dtype):
    torch.manual_seed(0)
    batch = images(3, shape).to(dtype)
    before = batch.clone()
    augmented = ADA(policy=("blit", "geometric", "color", "noise", "cutout"), start=0.8).build(Spec(shape))(batch, 1.0)
    assert (augmented.shape, augmented.dtype) == (batch.shape, dtype)
    assert torch.equal(batch, before)
    assert augmented.isfinite().all()


def test_ada_is_differentiable_twice():
    images = torch.rand(3, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    augment = ADA(start=0.8).build(Spec((3, 4, 4), mirrors=True))

    def fixed(images):
        torch.manual_seed(1)
        return augment(images, 1.0) ** 2

    assert torch.autograd.gradcheck(fixed, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(fixed, images, fast_mode=True)


def names_of(spec, **settings):
    return ADA(**settings).build(spec)._names


def test_ada_groups_have_the_operations_that_suit_the_data():
    assert "flip" in names_of(COLORED)
    assert names_of(GRAY) == names_of(Spec((1, 8, 8), mirrors=True)) - {"flip"}
    assert names_of(COLORED) - names_of(GRAY) == {"flip", "hue", "saturation"}
    assert names_of(COLORED, policy=("color",)) == ada_operations.COLORING
    assert names_of(COLORED, policy=("blit", "geometric")) == ada_operations.MOVING
    assert {name for group in ada_operations.GROUPS.values() for name in group} == (
        ada_operations.MOVING | ada_operations.COLORING
    )


def test_ada_flip_by_name_needs_mirrors_only_above_the_safe_probability():
    assert names_of(GRAY, policy=("flip",)) == {"flip"}
    with pytest.raises(ConfigError, match=r"does not declare that: at a probability of up to 0.9 .* mirrored images"):
        names_of(GRAY, policy=("flip",), most=0.9)
    assert names_of(COLORED, policy=("flip",), most=0.9) == {"flip"}
    assert names_of(GRAY, policy=("blit",), most=0.9) == {"rotate90", "translation"}


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({}, (2,), r"images \(C, H, W\).*\(2,\)"),
        ({}, (2, 8, 8), "brightness needs images of 1, 3 or 4 channels, which are colors; these have 2"),
        ({"policy": ("hue",)}, (1, 8, 8), "hue has no effect on gray images"),
        ({"start": 0.85}, (1, 8, 8), "start 0.85 is larger than most, 0.8"),
    ],
)
def test_ada_refuses_what_would_have_no_meaning(settings, shape, message):
    with pytest.raises(ConfigError, match=message):
        ADA(**settings).build(Spec(shape))


def test_ada_accepts_other_channels_without_colors():
    ADA(policy=("blit", "geometric", "noise", "cutout")).build(Spec((2, 8, 8)))
    with pytest.raises(ValidationError, match="policy"):
        ADA(policy=())


@pytest.mark.parametrize("moving", ["blit", "rotate", "translation"])
def test_ada_that_moves_images_refuses_pictures_as_conditions(moving):
    with pytest.raises(ConfigError, match="moves images, but not the pictures") as caught:
        ADA(policy=("color", moving)).build(Spec((3, 8, 8), condition=(3, 8, 8)))
    assert caught.value.hint == "leave only color and cutout in the policy"
    ADA(policy=("color", "noise", "cutout")).build(Spec((3, 8, 8), condition=(3, 8, 8)))
    for condition in (10, (4,)):
        ADA(policy=("color", moving)).build(Spec((3, 8, 8), condition=condition))


def test_ada_starts_where_it_is_set():
    assert ADA().build(GRAY).probability == 0
    assert ADA(start=0.3).build(GRAY).probability == pytest.approx(0.3)


def test_ada_probability_rises_while_d_overfits_and_falls_again():
    controller = ADA(interval=2, ramp_kimg=0.04, target=0.6).build(GRAY)
    probabilities = []
    for logits in ([1.0, 2.0, 3.0, -1.0], [1.0, 2.0, 3.0, 4.0]) * 4 + ([-1.0, -2.0, 0.5, 1.0],) * 4:
        controller.observe(real(*logits))
        probabilities.append(round(controller.probability.item(), 6))
    # Means of sign are 0.75 and then 0; 8 of 40 images are a fifth of the way from 0 to 1.
    assert probabilities == [0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8, 0.6, 0.6, 0.4]


def test_ada_counts_images_of_a_discriminator_with_several_logits_once():
    one, three = (ADA(interval=1, ramp_kimg=0.01).build(GRAY) for _ in range(2))
    one.observe(real(1.0, 1.0))
    three.observe(Scores(images=images(2), logits=torch.ones(2, 3)))
    assert one.probability == three.probability == pytest.approx(0.2)


def test_ada_probability_stays_within_its_bounds():
    controller = ADA(interval=1, ramp_kimg=0.001, most=0.5).build(GRAY)
    controller.observe(real(1.0, 1.0, 1.0))
    assert controller.probability == 0.5
    controller.observe(real(-1.0, -1.0))
    assert controller.probability == 0


def test_ada_probability_of_another_run_is_limited_when_it_is_applied():
    augment = ADA(policy=("brightness",), most=0.25).build(GRAY)
    augment.probability.fill_(1.0)
    torch.manual_seed(0)
    batch = images(400, GRAY.shape)
    share = (augment(batch, 1.0) != batch).flatten(1).any(dim=1).double().mean().item()
    assert share == pytest.approx(0.25, abs=0.07)


def test_ada_probability_is_applied_and_part_of_the_state():
    controller, batch = ADA(policy=("cutout",)).build(GRAY), images(200, GRAY.shape)
    assert torch.equal(controller(batch, 1.0), batch)
    controller.load_state_dict(controller.state_dict() | {"probability": torch.tensor(0.5)})
    changed = (controller(batch, 1.0) != batch).flatten(1).any(dim=1).double().mean()
    assert 0.3 < changed < 0.7
