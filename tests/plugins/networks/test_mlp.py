import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gancore.contracts import Spec
from gancore_plugins.networks.mlp import MLPDiscriminator, MLPGenerator
from helpers.conditions import classes, conditions_for, tensors
from helpers.strategies import components, shapes

batches = st.integers(1, 5)


def narrow(component, widths):
    """The component with widths that are small enough for a test; layer normalization of one unit is refused."""
    least = 2 if component.normalization == "layer" else 1
    return component.model_copy(update={"widths": tuple(max(width, least) for width in widths)})


small_widths = st.lists(st.integers(1, 12), max_size=3).map(tuple)


samples = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
"""Shapes of samples of any rank."""
specs = st.builds(Spec, shapes() | samples, st.integers(1, 9), classes | tensors, bounded=st.booleans())


@given(components(MLPGenerator), small_widths, specs, batches)
def test_mlp_generator_returns_finite_samples_of_the_shape(component, widths, spec, count):
    network = narrow(component, widths).build(spec).eval()
    images = network(torch.randn(count, spec.latent_dim) * 100, *conditions_for(count, spec.condition))
    assert images.shape == (count, *spec.shape)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    if spec.bounded:
        assert images.abs().max() <= 1


@given(components(MLPDiscriminator), small_widths, specs, batches)
def test_mlp_discriminator_returns_one_logit_per_sample(component, widths, spec, count):
    network = narrow(component, widths).build(spec).eval()
    logits = network(torch.randn(count, *spec.shape), *conditions_for(count, spec.condition))
    assert logits.shape == (count, 1)


@given(st.sampled_from(["leaky-relu", "elu", "silu", "tanh"]), st.sampled_from([None, "batch"]), small_widths, shapes())
def test_mlp_generator_passes_gradients_to_every_parameter(activation, normalization, widths, shape):
    # Left out: ReLU may be zero for the whole batch, and layer normalization of one unit is always zero.
    component = MLPGenerator(activation=activation, normalization=normalization)
    network = narrow(component, widths).build(Spec(shape, 4, 3))
    (network(torch.randn(8, 4), torch.arange(8) % 3) * torch.randn(8, *shape)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for name, parameter in network.named_parameters() if "weight" in name)


@given(small_widths, shapes())
def test_mlp_discriminator_passes_gradients_to_every_parameter(widths, shape):
    network = MLPDiscriminator(widths=widths).build(Spec(shape))
    (network(torch.randn(8, *shape)) * torch.randn(8, 1)).sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


@given(shape=samples)
def test_mlp_generator_ends_in_tanh_only_for_bounded_data(shape):
    bounded, unbounded = (MLPGenerator().build(Spec(shape, 3, bounded=bounded)) for bounded in (True, False))
    assert [type(layer) for layer in bounded].count(nn.Tanh) == 1
    assert not [layer for layer in unbounded if isinstance(layer, nn.Tanh)]
    assert unbounded(torch.randn(50, 3) * 1e3).abs().max() > 1


@given(classes.filter(bool))
def test_mlp_output_depends_on_labels(num_classes):
    generator = MLPGenerator().build(Spec((1, 4, 4), 3, num_classes))
    discriminator = MLPDiscriminator().build(Spec((1, 4, 4), condition=num_classes))
    latent, images = torch.randn(1, 3), torch.randn(1, 1, 4, 4)
    first, last = torch.tensor([0]), torch.tensor([num_classes - 1])
    assert not torch.equal(generator(latent, first), generator(latent, last))
    assert not torch.equal(discriminator(images, first), discriminator(images, last))


@given(condition=tensors, data=st.data())
def test_mlp_output_depends_on_every_element_of_a_tensor_condition(condition, data):
    torch.manual_seed(0)
    generator = MLPGenerator().build(Spec((1, 4, 4), 3, condition))
    discriminator = MLPDiscriminator().build(Spec((1, 4, 4), condition=condition))
    latent, images, given_one = torch.randn(1, 3), torch.randn(1, 1, 4, 4), torch.randn(1, *condition)
    other = given_one.clone()
    other.view(-1)[data.draw(st.integers(0, other.numel() - 1))] += 1
    assert not torch.equal(generator(latent, given_one), generator(latent, other))
    assert not torch.equal(discriminator(images, given_one), discriminator(images, other))


def test_mlp_widths_determine_the_number_of_parameters():
    network = MLPGenerator(widths=(7, 5)).build(Spec((2, 3, 4), 10))
    expected = 10 * 7 + 7 + 7 * 5 + 5 + 5 * math.prod((2, 3, 4)) + math.prod((2, 3, 4))
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_mlp_slope_applies_to_every_hidden_layer(slope):
    for network in (
        MLPGenerator(slope=slope, widths=(3, 3)).build(Spec((2,), 3)),
        MLPDiscriminator(slope=slope, widths=(3, 3)).build(Spec((2,))),
    ):
        slopes = [layer.negative_slope for layer in network if isinstance(layer, nn.LeakyReLU)]
        assert slopes == [slope, slope]


@pytest.mark.parametrize("kind", [MLPGenerator, MLPDiscriminator])
@pytest.mark.parametrize(
    ("activation", "layer"), [("relu", nn.ReLU), ("elu", nn.ELU), ("silu", nn.SiLU), ("tanh", nn.Tanh)]
)
def test_mlp_activation_applies_to_every_hidden_layer(kind, activation, layer):
    component = kind(activation=activation, widths=(3, 4))
    network = component.build(Spec((2,), 3, bounded=False))
    assert [type(part) for part in network if not isinstance(part, nn.Linear | nn.Unflatten)] == [layer, layer]


@pytest.mark.parametrize(("normalization", "layer"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_mlp_normalization_applies_to_every_hidden_layer(normalization, layer):
    generator = MLPGenerator(normalization=normalization, widths=(3, 4)).build(Spec((2,), 3))
    discriminator = MLPDiscriminator(normalization=normalization, widths=(3, 4)).build(Spec((2,)))
    for network in (generator, discriminator):
        assert sum(isinstance(part, layer) for part in network) == 2


def test_mlp_normalization_and_dropout_are_part_of_hidden_layers():
    generator = MLPGenerator(normalization="batch", widths=(3, 4)).build(Spec((2,), 3))
    discriminator = MLPDiscriminator(dropout=0.25, widths=(3, 4)).build(Spec((2,)))
    assert [layer.num_features for layer in generator if isinstance(layer, nn.BatchNorm1d)] == [3, 4]
    assert [layer.p for layer in discriminator if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert not [layer for layer in MLPDiscriminator().build(Spec((2,))) if isinstance(layer, nn.Dropout)]
