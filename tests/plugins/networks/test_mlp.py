import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gancore_plugins.networks.mlp import MLPDiscriminator, MLPGenerator
from helpers.strategies import components, shapes

batches = st.integers(1, 5)
classes = st.none() | st.integers(2, 5)


def narrow(component, widths):
    """The component with widths that are small enough for a test."""
    return component.model_copy(update={"widths": widths})


small_widths = st.lists(st.integers(1, 12), max_size=3).map(tuple)


def labels_for(count, num_classes):
    return () if num_classes is None else (torch.arange(count) % num_classes,)


@given(components(MLPGenerator), small_widths, shapes(), st.integers(1, 9), batches, classes)
def test_mlp_generator_returns_finite_images_of_the_shape(component, widths, shape, latent_dim, count, num_classes):
    network = narrow(component, widths).build(shape, latent_dim, num_classes).eval()
    images = network(torch.randn(count, latent_dim) * 100, *labels_for(count, num_classes))
    assert images.shape == (count, *shape)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    if len(shape) == 3:
        assert images.abs().max() <= 1


@given(components(MLPDiscriminator), small_widths, shapes(), batches, classes)
def test_mlp_discriminator_returns_one_logit_per_image(component, widths, shape, count, num_classes):
    network = narrow(component, widths).build(shape, num_classes).eval()
    logits = network(torch.randn(count, *shape), *labels_for(count, num_classes))
    assert logits.shape == (count, 1)


@given(st.sampled_from(["leaky-relu", "elu", "silu", "tanh"]), st.sampled_from([None, "batch"]), small_widths, shapes())
def test_mlp_generator_passes_gradients_to_every_parameter(activation, normalization, widths, shape):
    # Left out: ReLU may be zero for the whole batch, and layer normalization of one unit is always zero.
    component = MLPGenerator(activation=activation, normalization=normalization)
    network = narrow(component, widths).build(shape, 4, 3)
    (network(torch.randn(8, 4), torch.arange(8) % 3) * torch.randn(8, *shape)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for name, parameter in network.named_parameters() if "weight" in name)


@given(small_widths, shapes())
def test_mlp_discriminator_passes_gradients_to_every_parameter(widths, shape):
    network = MLPDiscriminator(widths=widths).build(shape, None)
    (network(torch.randn(8, *shape)) * torch.randn(8, 1)).sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


@given(st.integers(1, 4))
def test_mlp_generator_does_not_bound_vectors(features):
    network = MLPGenerator().build((features,), 3, None)
    assert not [layer for layer in network if isinstance(layer, nn.Tanh)]
    assert network(torch.randn(50, 3) * 1e3).abs().max() > 1


@given(classes.filter(bool))
def test_mlp_output_depends_on_labels(num_classes):
    generator = MLPGenerator().build((1, 4, 4), 3, num_classes)
    discriminator = MLPDiscriminator().build((1, 4, 4), num_classes)
    latent, images = torch.randn(1, 3), torch.randn(1, 1, 4, 4)
    first, last = torch.tensor([0]), torch.tensor([num_classes - 1])
    assert not torch.equal(generator(latent, first), generator(latent, last))
    assert not torch.equal(discriminator(images, first), discriminator(images, last))


def test_mlp_widths_determine_the_number_of_parameters():
    network = MLPGenerator(widths=(7, 5)).build((2, 3, 4), 10, None)
    expected = 10 * 7 + 7 + 7 * 5 + 5 + 5 * math.prod((2, 3, 4)) + math.prod((2, 3, 4))
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_mlp_slope_applies_to_every_hidden_layer(slope):
    for network in (
        MLPGenerator(slope=slope, widths=(3, 3)).build((2,), 3, None),
        MLPDiscriminator(slope=slope, widths=(3, 3)).build((2,), None),
    ):
        slopes = [layer.negative_slope for layer in network if isinstance(layer, nn.LeakyReLU)]
        assert slopes == [slope, slope]


@pytest.mark.parametrize("kind", [MLPGenerator, MLPDiscriminator])
@pytest.mark.parametrize(
    ("activation", "layer"), [("relu", nn.ReLU), ("elu", nn.ELU), ("silu", nn.SiLU), ("tanh", nn.Tanh)]
)
def test_mlp_activation_applies_to_every_hidden_layer(kind, activation, layer):
    build = kind(activation=activation, widths=(3, 4)).build
    network = build((2,), 3, None) if kind is MLPGenerator else build((2,), None)
    assert [type(part) for part in network if not isinstance(part, nn.Linear | nn.Unflatten)] == [layer, layer]


@pytest.mark.parametrize(("normalization", "layer"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_mlp_normalization_applies_to_every_hidden_layer(normalization, layer):
    generator = MLPGenerator(normalization=normalization, widths=(3, 4)).build((2,), 3, None)
    discriminator = MLPDiscriminator(normalization=normalization, widths=(3, 4)).build((2,), None)
    for network in (generator, discriminator):
        assert sum(isinstance(part, layer) for part in network) == 2


def test_mlp_normalization_and_dropout_are_part_of_hidden_layers():
    generator = MLPGenerator(normalization="batch", widths=(3, 4)).build((2,), 3, None)
    discriminator = MLPDiscriminator(dropout=0.25, widths=(3, 4)).build((2,), None)
    assert [layer.num_features for layer in generator if isinstance(layer, nn.BatchNorm1d)] == [3, 4]
    assert [layer.p for layer in discriminator if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert not [layer for layer in MLPDiscriminator().build((2,), None) if isinstance(layer, nn.Dropout)]
