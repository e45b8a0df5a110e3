"""What every convolutional network promises, for random shapes and settings."""

import math
import re
from contextlib import nullcontext

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.contracts import Spec
from gancore.errors import ConfigError
from gancore.training.networks import generated_of, output_of, tensors_of
from gancore_plugins.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gancore_plugins.networks.light import LightDiscriminator, LightGenerator
from gancore_plugins.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from gancore_plugins.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gancore_plugins.networks.style import StyleGenerator
from gancore_plugins.networks.style_discriminator import StyleDiscriminator
from gancore_plugins.networks.subpixel import SubpixelDiscriminator, SubpixelGenerator
from gancore_plugins.networks.upsampling import MIN_BASE_SIDE, UpsamplingPlan
from helpers.conditions import classes, conditions_for, tensors, vectors
from helpers.strategies import components

GENERATORS = [DCGANGenerator, ResNetGenerator, R3GANGenerator, SubpixelGenerator, LightGenerator]
DISCRIMINATORS = [
    DCGANDiscriminator,
    ResNetDiscriminator,
    R3GANDiscriminator,
    SubpixelDiscriminator,
    LightDiscriminator,
]

HALVING = [
    *(pair for pair in zip(GENERATORS, DISCRIMINATORS, strict=True) if pair[0] != SubpixelGenerator),
    (StyleGenerator, StyleDiscriminator),
]
"""Networks that halve images."""
CONDITIONS = classes | vectors


@st.composite
def image_shapes(draw):
    """(C, H, W) that can be halved at least once."""
    doublings = draw(st.integers(1, 2))
    sides = [draw(st.integers(MIN_BASE_SIDE, 6)) << doublings for _ in range(2)]
    return (draw(st.sampled_from([1, 3, 4])), *sides)


def narrow(kind):
    """Components of the class that are small enough for a test."""
    fields = {"width": st.sampled_from([2, 4, 6])}
    if "group_width" in kind.model_fields:
        fields |= {"group_width": st.sampled_from([1, 2, 4]), "blocks": st.integers(1, 2)}
    if "patch" in kind.model_fields:
        fields |= {"patch": st.just(2), "depth": st.integers(0, 2)}
    if "reconstructs" in kind.model_fields:  # its heads are pictures: see test_light.py
        fields |= {"reconstructs": st.just(False)}
    return components(kind, **fields)


def perturbed(network):
    """The network with noise on its parameters, so that none is zero."""
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.mark.parametrize("kind", GENERATORS)
@given(data=st.data(), shape=image_shapes(), latent=st.integers(1, 9), count=st.integers(2, 4))
@settings(max_examples=15)
def test_generators_return_finite_images_of_the_shape(kind, data, shape, latent, count):
    condition = data.draw(CONDITIONS)
    network = data.draw(narrow(kind)).build(Spec(shape, latent, condition))
    images = perturbed(network)(torch.randn(count, latent), *conditions_for(count, condition))
    assert images.shape == (count, *shape)
    assert images.isfinite().all()
    if kind is not R3GANGenerator:
        assert images.abs().max() <= 1


@pytest.mark.parametrize("kind", GENERATORS)
@given(data=st.data(), shape=image_shapes())
@settings(max_examples=5)
def test_generators_of_unbounded_data_have_no_tanh(kind, data, shape):
    component = data.draw(narrow(kind))
    bounded, unbounded = (component.build(Spec(shape, 3, bounded=bounded)) for bounded in (True, False))
    assert any(isinstance(layer, nn.Tanh) for layer in bounded.modules()) == (kind is not R3GANGenerator)
    assert not any(isinstance(layer, nn.Tanh) for layer in unbounded.modules())


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@given(data=st.data(), shape=image_shapes(), count=st.integers(2, 5))
@settings(max_examples=15)
def test_discriminators_return_one_logit_per_image(kind, data, shape, count):
    condition = data.draw(CONDITIONS)
    network = data.draw(narrow(kind)).build(Spec(shape, condition=condition))
    output = output_of(network(torch.randn(count, *shape), *conditions_for(count, condition)))
    assert output.logits.shape == (count, 1)
    assert isinstance(condition, int) or not output.heads
    assert all(head.shape == (count, condition) for head in output.heads.values())
    assert all(tensor.isfinite().all() for tensor in tensors_of(output).values())


@pytest.mark.parametrize("kind", GENERATORS)
@given(data=st.data(), shape=image_shapes())
@settings(max_examples=10)
def test_generators_pass_gradients_to_every_parameter(kind, data, shape):
    condition = data.draw(CONDITIONS)
    network = perturbed(data.draw(narrow(kind)).build(Spec(shape, 5, condition)))
    images = network(torch.randn(8, 5), *conditions_for(8, condition))
    (images * torch.randn_like(images)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for name, parameter in network.named_parameters() if "bias" not in name)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@given(data=st.data(), shape=image_shapes())
@settings(max_examples=10)
def test_discriminators_pass_a_gradient_penalty_to_every_weight(kind, data, shape):
    condition = data.draw(CONDITIONS)
    network = perturbed(data.draw(narrow(kind)).build(Spec(shape, condition=condition)))
    images = torch.randn(8, *shape, requires_grad=True)
    outputs = torch.cat(list(tensors_of(output_of(network(images, *conditions_for(8, condition)))).values()), dim=1)
    (gradient,) = torch.autograd.grad((outputs * torch.randn_like(outputs)).sum(), images, create_graph=True)
    (gradient.square().sum() + outputs.sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for name, parameter in network.named_parameters() if "bias" not in name)


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@given(num_classes=st.integers(2, 5))
@settings(max_examples=5)
def test_labels_change_the_output_of_networks(kind, num_classes):
    network = perturbed(kind(width=16).build(Spec((1, 8, 8), 3, num_classes))).eval()
    batch = torch.randn(1, 3) if kind in GENERATORS else torch.randn(1, 1, 8, 8)
    first, last = torch.tensor([0]), torch.tensor([num_classes - 1])
    assert not torch.equal(network(batch, first), network(batch, last))


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@given(condition=vectors, data=st.data())
@settings(max_examples=5)
def test_networks_depend_on_every_element_of_a_vector(kind, condition, data):
    torch.manual_seed(0)
    network = perturbed(kind(width=16).build(Spec((1, 8, 8), 3, condition))).eval()
    batch = torch.randn(1, 3) if kind in GENERATORS else torch.randn(1, 1, 8, 8)
    first = torch.randn(1, *condition)
    second = first.clone()
    second[0, data.draw(st.integers(0, condition[0] - 1))] += 1
    assert not torch.equal(network(batch, first), network(batch, second))


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@given(condition=tensors)
@settings(max_examples=10)
def test_tensor_conditions_that_a_network_does_not_support_are_refused(kind, condition):
    supported = len(condition) == 1
    with nullcontext() if supported else pytest.raises(ConfigError, match="condition, not tensors of shape") as caught:
        kind(width=8).build(Spec((1, 8, 8), 3, condition))
    if not supported:
        assert str(condition) in str(caught.value)
        assert "mlp" in caught.value.hint


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@pytest.mark.parametrize("shape", [(5,), (1, 7, 8), (1, 6, 6), (1, 1, 1)])
def test_shapes_that_are_too_small_are_refused(kind, shape):
    role = "generator" if kind in GENERATORS else "discriminator"
    with pytest.raises(ConfigError, match=f"{role} {kind.name}") as caught:
        kind().build(Spec(shape, 3))
    assert "mlp" in caught.value.hint


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@given(height=st.integers(1, 12), width=st.integers(1, 12))
@settings(max_examples=10)
def test_sizes_that_an_error_names_are_supported(kind, height, width):
    assume(min(height, width) < 2 * MIN_BASE_SIDE)
    with pytest.raises(ConfigError) as caught:
        kind(**({} if kind.name == "subpixel" else {"width": 16})).build(Spec((1, height, width), 3))
    if kind.name != "subpixel":
        named = tuple(map(int, re.search(r"such as (\d+)x(\d+)", caught.value.hint).groups()))
        kind(width=16).build(Spec((1, *named), 3))
        assert all(abs(new - old) <= max(8, old // 4) for new, old in zip(named, (height, width), strict=True))


@given(st.integers(MIN_BASE_SIDE, 7), st.integers(MIN_BASE_SIDE, 7), st.integers(1, 4), st.integers(1, 4))
def test_upsampling_plan_doubles_the_base_to_the_image_size(height, width, doublings, channels):
    shape = (channels, height << doublings, width << doublings)
    plan = UpsamplingPlan.for_shape(shape, DCGANGenerator())
    assert plan.channels == channels
    assert tuple(side * 2**plan.doublings for side in plan.base) == shape[1:]
    assert min(plan.base) >= MIN_BASE_SIDE
    assert plan.doublings >= doublings


@given(st.integers(2 * MIN_BASE_SIDE, 300), st.integers(2 * MIN_BASE_SIDE, 300))
def test_upsampling_plan_has_a_small_base_for_all_sides(height, width):
    plan = UpsamplingPlan.for_shape((1, height, width), DCGANGenerator())
    assert plan.sizes[-1] == (height + plan.margin[0], width + plan.margin[1])
    assert min(plan.base) >= MIN_BASE_SIDE
    assert math.prod(plan.base) <= 400 or min(plan.base) < 2 * MIN_BASE_SIDE
    assert all(margin < max(2, side / 8) for margin, side in zip(plan.margin, (height, width), strict=True))


def test_margin_is_cut_off_where_it_was_added():
    plan = UpsamplingPlan.for_shape((1, 75, 9), DCGANGenerator())
    assert plan == UpsamplingPlan(1, (38, 5), 1, (1, 1))
    images = torch.rand(2, 1, 75, 9) + 1
    ((padded,), (cropped,)) = plan.padding(), plan.cropping()
    assert padded(images).shape == (2, 1, 76, 10)
    assert torch.equal(cropped(padded(images)), images)
    assert float(padded(images).sum()) == pytest.approx(float(images.sum()))
    assert UpsamplingPlan.for_shape((1, 28, 28), DCGANGenerator()).padding() == []


@pytest.mark.parametrize(("generator", "discriminator"), HALVING)
def test_sides_that_cannot_be_halved_often_make_no_large_network(generator, discriminator):
    spec = Spec((3, 300, 300), 64)
    with torch.device("meta"):
        for network in (generator().build(spec), discriminator().build(spec)):
            assert sum(weight.numel() for weight in network.parameters()) < 20_000_000


@pytest.mark.parametrize(("generator", "discriminator"), HALVING)
def test_odd_sides_are_generated_and_scored_to_the_last_pixel(generator, discriminator):
    spec = Spec((1, 9, 11), 3, width_factor=0.1)
    images = generated_of(generator().build(spec)(torch.randn(2, 3))).images.detach().requires_grad_()
    assert images.shape == (2, 1, 9, 11)
    output_of(perturbed(discriminator().build(spec))(images)).logits.sum().backward()
    assert (images.grad != 0).all()


@pytest.mark.parametrize(
    ("side", "base", "doublings"), [(28, 7, 2), (32, 4, 3), (8, 4, 1), (64, 4, 4), (96, 6, 4), (30, 15, 1)]
)
def test_upsampling_plan_of_common_image_sizes(side, base, doublings):
    assert UpsamplingPlan.for_shape((1, side, side), DCGANGenerator()) == UpsamplingPlan(1, (base, base), doublings)
