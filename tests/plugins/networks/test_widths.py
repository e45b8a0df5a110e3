"""Widths of networks that the key `size` scales."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.contracts import Spec
from gancore.utils.meta import without_memory
from gancore_plugins.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gancore_plugins.networks.light import LightDiscriminator, LightGenerator
from gancore_plugins.networks.mlp import MLPDiscriminator, MLPGenerator
from gancore_plugins.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from gancore_plugins.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gancore_plugins.networks.subpixel import SubpixelDiscriminator, SubpixelGenerator
from gancore_plugins.networks.widths import bounded, scaled
from helpers.conditions import conditions_for

NETWORKS = [
    MLPGenerator(widths=(16, 24)),
    MLPDiscriminator(widths=(16, 24)),
    DCGANGenerator(width=16),
    DCGANGenerator(width=16, max_width=24),
    DCGANDiscriminator(width=16),
    ResNetGenerator(width=16),
    ResNetDiscriminator(width=16),
    R3GANGenerator(width=16),
    R3GANDiscriminator(width=16),
    SubpixelGenerator(width=16),
    SubpixelDiscriminator(width=16),
    LightGenerator(width=16, max_width=64),
    LightDiscriminator(width=16, reconstructs=True),
]
widths = st.integers(1, 4096)
factors = st.floats(0.05, 16)


def spec_of(factor, side=16):
    return Spec((3, side, side), 8, width_factor=factor)


def shapes_of(network, spec):
    with without_memory():
        return {name: tuple(weight.shape) for name, weight in network.build(spec).state_dict().items()}


@given(widths, st.integers(1, 64))
def test_scaled_by_one_is_the_width_itself(width, multiple):
    assert scaled(width, spec_of(1.0), multiple=multiple) == width


@given(widths, factors, st.integers(1, 64))
def test_scaled_is_the_nearest_positive_multiple(width, factor, multiple):
    found = scaled(width, spec_of(factor), multiple=multiple)
    assert found >= multiple
    if factor != 1:
        assert found % multiple == 0
        assert abs(found - width * factor) <= multiple / 2 or found == multiple


@given(widths, st.integers(1, 512), st.integers(1, 512), st.integers(1, 16))
def test_bounded_keeps_the_width_up_to_64_pixels_and_halves_it_for_each_doubling(width, height, length, multiple):
    kept = bounded(width, (height, length), multiple=multiple)
    larger = bounded(width, (2 * height, 2 * length), multiple=multiple)
    if height * length <= 64**2:
        assert kept == width
    if 4 * height * length > 64**2:
        assert larger <= max(multiple, kept / 2 + multiple / 2)
    assert larger >= min(width, multiple)


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
@given(factor=st.sampled_from([0.05, 0.3, 0.5, 2.0, 3.0]))
@settings(max_examples=3)
def test_network_of_another_size_has_the_shapes_of_scaled_widths(network, factor):
    spec = spec_of(factor)
    if isinstance(network, MLPGenerator | MLPDiscriminator):
        fields = {"widths": tuple(scaled(width, spec) for width in network.widths)}
    else:
        # Groups of r3gan must divide twice the width.
        fields = {"width": scaled(network.width, spec, multiple=8 if network.name == "r3gan" else 1)}
        if getattr(network, "max_width", None):
            fields["max_width"] = scaled(network.max_width, spec)
    assert shapes_of(network, spec) == shapes_of(network.model_copy(update=fields), spec_of(1.0))


CONVOLUTIONAL = [network for network in NETWORKS if network.name != "mlp"]
LARGE = [(64, 128), (128, 128), (256, 64)]


def parameters_of(network, side):
    return sum(math.prod(shape) for shape in shapes_of(network, spec_of(1.0, side)).values())


@pytest.mark.parametrize("kind", sorted({type(network) for network in CONVOLUTIONAL}, key=str))
def test_network_of_large_images_has_a_bounded_number_of_parameters(kind):
    assert parameters_of(kind(), 512) < 20_000_000
    assert parameters_of(kind(), 512) < 12 * parameters_of(kind(), 64)


@pytest.mark.parametrize("kind", sorted({type(network) for network in CONVOLUTIONAL}, key=str))
@given(size=st.sampled_from(LARGE), condition=st.sampled_from([None, 3, (2,)]), width=st.sampled_from([2, 5]))
@settings(max_examples=2)
def test_network_of_large_images_makes_outputs_of_the_right_shape(kind, size, condition, width):
    fields = {"group_width": 2, "blocks": 1} if kind.model_fields.get("group_width") else {}
    network = kind(width=width, **fields).build(Spec((3, *size), 4, condition))
    given = [torch.randn(2, 4) if kind.kind == "generator" else torch.randn(2, 3, *size)]
    given += conditions_for(2, condition)
    assert network(*given).shape == ((2, 3, *size) if kind.kind == "generator" else (2, 1))
