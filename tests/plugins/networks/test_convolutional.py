"""What every convolutional network promises, for random shapes and settings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import ConfigError
from gancore.training.networks import output_of, tensors_of
from gancore_plugins.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gancore_plugins.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from gancore_plugins.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gancore_plugins.networks.subpixel import SubpixelDiscriminator, SubpixelGenerator
from gancore_plugins.networks.upsampling import MIN_BASE_SIDE, UpsamplingPlan
from helpers.strategies import components

GENERATORS = [DCGANGenerator, ResNetGenerator, R3GANGenerator, SubpixelGenerator]
DISCRIMINATORS = [DCGANDiscriminator, ResNetDiscriminator, R3GANDiscriminator, SubpixelDiscriminator]
classes = st.none() | st.integers(2, 5)


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
    return components(kind, **fields)


def labels_for(count, num_classes):
    return () if num_classes is None else (torch.arange(count) % num_classes,)


def perturbed(network):
    """The network with noise on its parameters, so that none is zero."""
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.mark.parametrize("kind", GENERATORS)
@given(data=st.data(), shape=image_shapes(), latent=st.integers(1, 9), count=st.integers(2, 4), num_classes=classes)
@settings(max_examples=15)
def test_generators_return_finite_images_of_the_shape(kind, data, shape, latent, count, num_classes):
    network = data.draw(narrow(kind)).build(shape, latent, num_classes)
    images = perturbed(network)(torch.randn(count, latent), *labels_for(count, num_classes))
    assert images.shape == (count, *shape)
    assert images.isfinite().all()
    if kind is not R3GANGenerator:
        assert images.abs().max() <= 1


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@given(data=st.data(), shape=image_shapes(), count=st.integers(2, 5), num_classes=classes)
@settings(max_examples=15)
def test_discriminators_return_one_logit_per_image(kind, data, shape, count, num_classes):
    network = data.draw(narrow(kind)).build(shape, num_classes)
    output = output_of(network(torch.randn(count, *shape), *labels_for(count, num_classes)))
    assert output.logits.shape == (count, 1)
    assert all(head.shape == (count, num_classes) for head in output.heads.values())
    assert all(tensor.isfinite().all() for tensor in tensors_of(output).values())


@pytest.mark.parametrize("kind", GENERATORS)
@given(data=st.data(), shape=image_shapes(), num_classes=classes)
@settings(max_examples=10)
def test_generators_pass_gradients_to_every_parameter(kind, data, shape, num_classes):
    network = perturbed(data.draw(narrow(kind)).build(shape, 5, num_classes))
    images = network(torch.randn(8, 5), *labels_for(8, num_classes))
    (images * torch.randn_like(images)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for name, parameter in network.named_parameters() if "bias" not in name)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@given(data=st.data(), shape=image_shapes(), num_classes=classes)
@settings(max_examples=10)
def test_discriminators_pass_a_gradient_penalty_to_every_weight(kind, data, shape, num_classes):
    network = perturbed(data.draw(narrow(kind)).build(shape, num_classes))
    images = torch.randn(8, *shape, requires_grad=True)
    outputs = torch.cat(list(tensors_of(output_of(network(images, *labels_for(8, num_classes)))).values()), dim=1)
    (gradient,) = torch.autograd.grad((outputs * torch.randn_like(outputs)).sum(), images, create_graph=True)
    (gradient.square().sum() + outputs.sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for name, parameter in network.named_parameters() if "bias" not in name)


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@given(num_classes=st.integers(2, 5))
@settings(max_examples=5)
def test_labels_change_the_output_of_networks(kind, num_classes):
    shape, component = (1, 8, 8), kind(width=16)
    of_latent = kind in GENERATORS
    network = component.build(shape, 3, num_classes) if of_latent else component.build(shape, num_classes)
    batch = torch.randn(1, 3) if of_latent else torch.randn(1, *shape)
    first, last = torch.tensor([0]), torch.tensor([num_classes - 1])
    network = perturbed(network).eval()
    assert not torch.equal(network(batch, first), network(batch, last))


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@pytest.mark.parametrize("shape", [(5,), (1, 7, 8), (1, 6, 6), (3, 9, 9), (1, 1, 1)])
def test_shapes_that_cannot_be_halved_are_refused(kind, shape):
    role = "generator" if kind in GENERATORS else "discriminator"
    with pytest.raises(ConfigError, match=f"{role} {kind.name}") as caught:
        kind().build(shape, 3, None) if kind in GENERATORS else kind().build(shape, None)
    assert "mlp" in caught.value.hint


@given(st.integers(MIN_BASE_SIDE, 7), st.integers(MIN_BASE_SIDE, 7), st.integers(1, 4), st.integers(1, 4))
def test_upsampling_plan_doubles_the_base_to_the_image_size(height, width, doublings, channels):
    shape = (channels, height << doublings, width << doublings)
    plan = UpsamplingPlan.for_shape(shape, "this")
    assert plan.channels == channels
    assert tuple(side * 2**plan.doublings for side in plan.base) == shape[1:]
    assert min(plan.base) >= MIN_BASE_SIDE
    assert plan.doublings >= doublings


@pytest.mark.parametrize(
    ("side", "base", "doublings"), [(28, 7, 2), (32, 4, 3), (8, 4, 1), (64, 4, 4), (96, 6, 4), (30, 15, 1)]
)
def test_upsampling_plan_of_common_image_sizes(side, base, doublings):
    assert UpsamplingPlan.for_shape((1, side, side), "this") == UpsamplingPlan(1, (base, base), doublings)
