"""Widths of networks that the key `size` scales."""

import pytest
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
from gancore_plugins.networks.widths import halved, scaled

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


@given(widths, st.integers(1, 512), st.integers(4, 128))
def test_halved_keeps_the_width_up_to_the_full_side_and_halves_it_above(width, side, full):
    assert halved(width, min(side, full), full) == width
    assert halved(width, 2 * max(side, full), full) == max(1, halved(width, max(side, full), full) // 2)


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
