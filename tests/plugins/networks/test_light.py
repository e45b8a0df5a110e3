"""What the paper says of its networks, and what their parts compute."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import Output, Spec
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore_plugins.networks.decoders import Decoders
from gancore_plugins.networks.light import LightDiscriminator, LightGenerator, SkipLayerExcitation
from gancore_plugins.networks.up_convolution import UpConvolution
from gancore_plugins.networks.upsampling import UpsamplingPlan
from helpers.conditions import conditions_for
from helpers.tiny_components import catalog

sides = st.integers(1, 3)
shapes = st.sampled_from([(1, 8, 8), (3, 16, 16), (4, 20, 36), (1, 28, 28), (2, 32, 64)])


@given(inputs=sides, outputs=sides, height=sides, width=sides)
@settings(max_examples=10)
def test_up_convolution_equals_upsampling_and_a_convolution(inputs, outputs, height, width):
    layer = UpConvolution(inputs, outputs).double()
    features = torch.randn(2, inputs, height, width, dtype=torch.float64, requires_grad=True)
    expected = conv2d(interpolate(features, scale_factor=2.0, mode="nearest"), layer.weight, padding=1)
    torch.testing.assert_close(layer(features), expected)
    weights = torch.randn_like(expected)
    found, right = (
        torch.autograd.grad((each * weights).sum(), [features, layer.weight]) for each in (layer(features), expected)
    )
    torch.testing.assert_close(found, right)


def test_up_convolution_is_twice_differentiable():
    layer = UpConvolution(2, 3).double()
    features = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, features, fast_mode=True)


def excitation(low=3, high=2, base=(4, 6)):
    return SkipLayerExcitation(low, high, base)


def test_excitation_with_an_open_gate_is_the_identity():
    part = excitation()
    part.gate[2].weight.data.zero_()
    part.gate[2].bias.data.fill_(100.0)
    high = torch.randn(2, 2, 16, 24)
    assert torch.equal(part(torch.randn(2, 3, 4, 6), high), high)


@given(factor=st.integers(1, 3))
@settings(max_examples=3)
def test_excitation_multiplies_each_channel_by_a_number_between_0_and_1(factor):
    part, low = excitation(), torch.randn(2, 3, 4 * factor, 6 * factor)
    gates = part(low, torch.ones(2, 2, 5, 7))
    assert torch.equal(gates, gates[:, :, :1, :1].expand(-1, -1, 5, 7))
    assert 0 < gates.min() < gates.max() < 1
    # It sees the mean of each cell.
    pooled = interpolate(avg_pool2d(low, factor), scale_factor=factor)
    torch.testing.assert_close(part(pooled, torch.ones(2, 2, 5, 7)), gates)


@pytest.mark.parametrize(
    ("side", "pairs"),
    [
        (8, []),
        (16, [(4, 16)]),
        (32, [(4, 16), (8, 32)]),
        (64, [(4, 32), (8, 64)]),
        (128, [(4, 64), (8, 128)]),
        (256, [(4, 64), (8, 128), (16, 256)]),
    ],
)
def test_excitations_lead_from_low_to_high_resolutions(side, pairs):
    network, seen = LightGenerator(width=1).build(Spec((1, side, side), 2)).eval(), []
    for part in network.modules():
        if isinstance(part, SkipLayerExcitation):
            part.register_forward_hook(lambda _, inputs, __: seen.append(tuple(each.shape[2] for each in inputs)))
    network(torch.randn(1, 2))
    assert seen == pairs


@given(shape=shapes, count=st.integers(2, 3), condition=st.sampled_from([None, 3, (2,)]))
@settings(max_examples=10)
def test_heads_are_reconstructions_and_the_pooled_images(shape, count, condition):
    network = LightDiscriminator(width=2, reconstructs=True, classifier=True).build(Spec(shape, condition=condition))
    images = torch.rand(count, *shape) * 2 - 1
    output = network(images, *conditions_for(count, condition))
    assert output.logits.shape == (count, 1)
    assert ("classes" in output.heads) == (condition == 3)
    made, target = output.heads["reconstruction"], output.heads["target"]
    assert made.shape == target.shape
    parts = 1 if min(shape[1:]) == 8 else 2
    assert made.shape == (count, parts, shape[0], shape[1] // 2, shape[2] // 2)
    assert made.abs().max() <= 1
    assert torch.equal(target[:, 0], avg_pool2d(images, 2))
    assert made.requires_grad
    assert not target.requires_grad
    if parts == 2:
        height, width = target.shape[3:]
        corners = [(row, column) for row in range(height + 1) for column in range(width + 1)]
        assert any(torch.equal(target[:, 1], images[:, :, r : r + height, c : c + width]) for r, c in corners)


@pytest.mark.parametrize("condition", [5, (3,)])
def test_discriminator_starts_with_a_projection_of_the_scale_of_its_features(condition):
    torch.manual_seed(0)
    network = LightDiscriminator(width=8).build(Spec((3, 32, 32), condition=condition))
    features = torch.randn(500, network.head.linear.in_features)
    with torch.no_grad():
        weights = network.head.embedding(torch.arange(5) if condition == 5 else torch.eye(3))
    assert (features @ weights.T).std().item() == pytest.approx(1, rel=0.1)


def test_reconstructions_have_at_most_four_doublings():
    network = LightDiscriminator(width=1, reconstructs=True).build(Spec((1, 256, 256)))
    assert network(torch.randn(1, 1, 256, 256)).heads["target"].shape == (1, 2, 1, 64, 64)


@given(row=st.integers(0, 4), column=st.integers(0, 6), pooling=st.sampled_from([1, 2, 4]))
@settings(max_examples=15)
def test_quarters_of_an_image_and_of_its_features_are_the_same_part(row, column, pooling):
    decoders = Decoders(UpsamplingPlan(1, (4, 6), 3), [2, 4, 8, 8], bounded=True)
    place = torch.tensor(row), torch.tensor(column)
    images = torch.randn(2, 1, 32, 48)
    pooled = decoders.quarter(avg_pool2d(images, pooling), *place)
    torch.testing.assert_close(pooled, avg_pool2d(decoders.quarter(images, *place), pooling))
    assert pooled.shape[2:] == (16 // pooling, 24 // pooling)


def test_reconstructions_are_made_only_where_they_can_be_trained():
    network, images = LightDiscriminator(width=2, reconstructs=True).build(Spec((1, 16, 16))), torch.randn(2, 1, 16, 16)
    assert isinstance(network(images), Output)
    with torch.no_grad():
        assert isinstance(network(images), torch.Tensor)
    assert isinstance(network.eval()(images), torch.Tensor)
    network.train().requires_grad_(False)
    assert isinstance(network(images), torch.Tensor)


def test_spectral_normalization_leaves_the_decoders_as_they_are():
    network = LightDiscriminator(width=2, reconstructs=True, normalization="spectral").build(Spec((1, 16, 16)))
    normed = {name for name, part in network.named_modules() if hasattr(part, "parametrizations")}
    layers = {name for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    assert normed == {name for name in layers if not name.startswith("reconstruct")}


def test_reconstruction_is_learned_by_all_decoders():
    parts = {
        "generator": {"name": "light", "width": 2},
        "discriminator": {"name": "light", "width": 4, "reconstructs": True},
        "loss": "hinge",
        "dataset": {"name": "noise", "shape": [1, 16, 16], "count": 4},
        "batch_size": 4,
        "duration": "40 steps",
        "optimizer": {"discriminator": {"name": "Adam", "lr": 5e-3}},
        "regularizers": {"reconstruction": {"error": "squared"}, "r1": {"interval": 4}},
    }
    gan = GAN.assemble(resolve([ConfigLayer("parts", parts)], catalog()), Path(), "cpu")
    before = {name: weight.clone() for name, weight in gan.discriminator.named_parameters()}
    errors = [float(step.penalties["reconstruction"]) for step in train(gan)]  # warns of no parameter without gradient
    assert errors[-1] < 0.8 * errors[0]
    assert not any(torch.equal(weight, before[name]) for name, weight in gan.discriminator.named_parameters())
