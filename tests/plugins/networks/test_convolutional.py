"""What every convolutional network promises, over drawn shapes and settings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import ConfigError
from gancore.training.networks import output_of, tensors_of
from gancore_plugins.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gancore_plugins.networks.pyramid import LEAST, UpsamplingPlan
from gancore_plugins.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from gancore_plugins.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gancore_plugins.networks.subpixel import SubpixelDiscriminator, SubpixelGenerator
from helpers.strategies import components

GENERATORS = [DCGANGenerator, ResNetGenerator, R3GANGenerator, SubpixelGenerator]
DISCRIMINATORS = [DCGANDiscriminator, ResNetDiscriminator, R3GANDiscriminator, SubpixelDiscriminator]
classes = st.none() | st.integers(2, 5)


@st.composite
def servable(draw):
    """(C, H, W) that can be halved at least once."""
    doublings = draw(st.integers(1, 2))
    sides = [draw(st.integers(LEAST, 6)) << doublings for _ in range(2)]
    return (draw(st.sampled_from([1, 3, 4])), *sides)


def narrow(kind):
    """Any component of the class that a test can afford."""
    fields = {"width": st.sampled_from([2, 4, 6])}
    if "group_width" in kind.model_fields:
        fields |= {"group_width": st.sampled_from([1, 2, 4]), "blocks": st.integers(1, 2)}
    if "patch" in kind.model_fields:
        fields |= {"patch": st.just(2), "depth": st.integers(0, 2)}
    return components(kind, **fields)


def labels_for(count, num_classes):
    return () if num_classes is None else (torch.arange(count) % num_classes,)


def stirred(network):
    """The network somewhat later in its training, so that nothing is zero any more."""
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.mark.parametrize("kind", GENERATORS)
@given(data=st.data(), shape=servable(), latent=st.integers(1, 9), count=st.integers(2, 4), num_classes=classes)
@settings(max_examples=15)
def test_generators_make_what_they_promise(kind, data, shape, latent, count, num_classes):
    network = data.draw(narrow(kind)).build(shape, latent, num_classes)
    images = stirred(network)(torch.randn(count, latent), *labels_for(count, num_classes))
    assert images.shape == (count, *shape)
    assert images.isfinite().all()
    if kind is not R3GANGenerator:
        assert images.abs().max() <= 1


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@given(data=st.data(), shape=servable(), count=st.integers(2, 5), num_classes=classes)
@settings(max_examples=15)
def test_discriminators_give_one_logit_an_image(kind, data, shape, count, num_classes):
    network = data.draw(narrow(kind)).build(shape, num_classes)
    said = output_of(network(torch.randn(count, *shape), *labels_for(count, num_classes)))
    assert said.logits.shape == (count, 1)
    assert all(head.shape == (count, num_classes) for head in said.heads.values())
    assert all(output.isfinite().all() for output in tensors_of(said).values())


@pytest.mark.parametrize("kind", GENERATORS)
@given(data=st.data(), shape=servable(), num_classes=classes)
@settings(max_examples=10)
def test_gradients_reach_every_parameter_of_a_generator(kind, data, shape, num_classes):
    network = stirred(data.draw(narrow(kind)).build(shape, 5, num_classes))
    images = network(torch.randn(8, 5), *labels_for(8, num_classes))
    (images * torch.randn_like(images)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for name, parameter in network.named_parameters() if "bias" not in name)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@given(data=st.data(), shape=servable(), num_classes=classes)
@settings(max_examples=10)
def test_a_gradient_penalty_reaches_every_weight_of_a_discriminator(kind, data, shape, num_classes):
    network = stirred(data.draw(narrow(kind)).build(shape, num_classes))
    images = torch.randn(8, *shape, requires_grad=True)
    said = torch.cat(list(tensors_of(output_of(network(images, *labels_for(8, num_classes)))).values()), dim=1)
    (gradient,) = torch.autograd.grad((said * torch.randn_like(said)).sum(), images, create_graph=True)
    (gradient.square().sum() + said.sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for name, parameter in network.named_parameters() if "bias" not in name)


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@given(num_classes=st.integers(2, 5))
@settings(max_examples=5)
def test_labels_change_what_networks_say(kind, num_classes):
    shape, component = (1, 8, 8), kind(width=16)
    of_latent = kind in GENERATORS
    network = component.build(shape, 3, num_classes) if of_latent else component.build(shape, num_classes)
    batch = torch.randn(1, 3) if of_latent else torch.randn(1, *shape)
    first, last = torch.tensor([0]), torch.tensor([num_classes - 1])
    network = stirred(network).eval()
    assert not torch.equal(network(batch, first), network(batch, last))


@pytest.mark.parametrize("kind", GENERATORS + DISCRIMINATORS)
@pytest.mark.parametrize("shape", [(5,), (1, 7, 8), (1, 6, 6), (3, 9, 9), (1, 1, 1)])
def test_what_cannot_be_halved_is_refused_by_name(kind, shape):
    role = "generator" if kind in GENERATORS else "discriminator"
    with pytest.raises(ConfigError, match=f"{role} {kind.name}") as caught:
        kind().build(shape, 3, None) if kind in GENERATORS else kind().build(shape, None)
    assert "mlp" in caught.value.hint


@given(st.integers(LEAST, 7), st.integers(LEAST, 7), st.integers(1, 4), st.integers(1, 4))
def test_the_base_doubled_is_the_image(height, width, doublings, channels):
    shape = (channels, height << doublings, width << doublings)
    pyramid = UpsamplingPlan.of(shape, "this")
    assert pyramid.channels == channels
    assert tuple(side << pyramid.doublings for side in pyramid.base) == shape[1:]
    assert min(pyramid.base) >= LEAST
    assert pyramid.doublings >= doublings


@pytest.mark.parametrize(
    ("side", "base", "doublings"), [(28, 7, 2), (32, 4, 3), (8, 4, 1), (64, 4, 4), (96, 6, 4), (30, 15, 1)]
)
def test_sizes_that_people_have(side, base, doublings):
    assert UpsamplingPlan.of((1, side, side), "this") == UpsamplingPlan(1, (base, base), doublings)
