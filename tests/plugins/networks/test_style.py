"""The style-based networks, and the layers that they are made of."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d

from gancore.contracts import Spec
from gancore_plugins.networks.equalized import Blur, EqualizedConv2d, EqualizedLinear
from gancore_plugins.networks.modulation import ModulatedConv2d, StyledLayer
from gancore_plugins.networks.style import StyleGenerator
from gancore_plugins.networks.style_discriminator import StyleDiscriminator
from helpers.conditions import classes, conditions_for, vectors
from helpers.strategies import components

SMALL = {"width": st.sampled_from([1, 2, 6]), "style": st.integers(1, 5), "depth": st.integers(1, 2)}
shapes = st.tuples(st.integers(1, 4), st.sampled_from([8, 12, 28, 32]), st.sampled_from([8, 20, 32]))


def built(component, shape=(3, 8, 8), latent=5, condition=None):
    """The network in evaluation mode, with noise on its parameters, so that none is zero."""
    network = component.build(Spec(shape, latent, condition)).eval()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return network


@given(st.booleans(), st.booleans(), st.sampled_from([1, 3]), st.integers(0, 99))
@settings(max_examples=10)
def test_modulated_convolution_equals_that_of_a_weight_for_each_sample(doubles, demodulates, side, seed):
    torch.manual_seed(seed)
    side = 3 if doubles else side
    layer = ModulatedConv2d(4, 5, side, 3, doubles=doubles, demodulates=demodulates, gain=1.5).double()
    features, styles = torch.randn(3, 4, 5, 6).double(), torch.randn(3, 3).double()
    for number, image in enumerate(features):
        scales = layer.affine(styles[number : number + 1])[0]
        weight = layer.weight * layer.scale * scales[None, :, None, None]  # eq. 1
        if demodulates:
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()  # eq. 3
        if doubles:
            expected = layer.blur(conv_transpose2d(image[None], weight.transpose(0, 1), stride=2))
        else:
            expected = conv2d(image[None], weight, padding=side // 2)
        torch.testing.assert_close(layer(features, styles)[number], 1.5 * expected[0])


def test_demodulated_outputs_have_unit_variance_whatever_the_style():
    torch.manual_seed(0)
    layer, styles = ModulatedConv2d(16, 8, 3, 4), 5 * torch.randn(8, 4)
    outputs = layer(torch.randn(8, 16, 32, 32), styles)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(outputs.var(dim=(2, 3)), torch.ones(8, 8), rtol=0.2, atol=0)


@given(st.booleans(), st.floats(0.01, 1), st.integers(1, 40))
@settings(max_examples=10)
def test_equalized_layers_keep_the_variance(activates, lr_factor, inputs):
    torch.manual_seed(inputs)
    layer = EqualizedLinear(inputs, 3000, activates=activates, lr_factor=lr_factor)
    batch = torch.randn(40, inputs)
    # LeakyReLU of slope 0.2 with gain sqrt(2) multiplies the mean square by 1.04.
    expected = batch.square().mean() * (1.04 if activates else 1)
    assert layer(batch).square().mean().item() == pytest.approx(expected.item(), rel=0.15)
    assert layer.weight.std().item() == pytest.approx(1 / lr_factor, rel=0.1)
    convolution = EqualizedConv2d(inputs, 300, 3, activates=activates)
    mean_square = convolution(torch.randn(8, inputs, 6, 6))[:, :, 1:-1, 1:-1].square().mean().item()
    assert mean_square == pytest.approx(1.04 if activates else 2, rel=0.2)


def test_blur_keeps_constants_and_equals_bilinear_sampling():
    flat, image = torch.ones(1, 2, 6, 8), torch.randn(1, 2, 6, 8)
    torch.testing.assert_close(Blur(padding=0, gain=2.0)(flat), torch.full((1, 2, 3, 5), 2.0))
    spread = torch.zeros(1, 2, 12, 16)
    spread[:, :, ::2, ::2] = image
    doubled = nn.functional.interpolate(image, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(Blur(gain=4.0, padding=2)(spread)[:, :, 2:-3, 2:-3], doubled[:, :, 2:-2, 2:-2])
    halved = nn.functional.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(Blur(padding=1, stride=2)(image)[:, :, 1:-1, 1:-1], halved[:, :, 1:-1, 1:-1])


@given(components(StyleGenerator, **SMALL), shapes, classes | vectors, st.integers(1, 6), st.booleans())
@settings(max_examples=12)
def test_generator_makes_images_of_any_shape(component, shape, condition, latent, training):
    network = built(component, shape, latent, condition).train(training)
    generated = network(torch.randn(4, latent), *conditions_for(4, condition))
    assert generated.images.shape == (4, *shape)
    assert generated.images.isfinite().all()
    assert generated.extras["style"].shape == (4, len(network.layers), component.style)


@given(
    components(StyleDiscriminator, width=st.sampled_from([1, 2, 6]), minibatch_stddev=st.sampled_from([1, 4])),
    shapes,
    classes | vectors,
)
@settings(max_examples=12)
def test_discriminator_passes_a_gradient_penalty_to_every_weight(component, shape, condition):
    torch.manual_seed(0)
    network = built(component, shape, condition=condition)
    images = torch.randn(4, *shape, requires_grad=True)
    output = network(images, *conditions_for(4, condition))
    logits = getattr(output, "logits", output)
    assert logits.shape == (4, 1)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    others = sum(head.sum() for head in getattr(output, "heads", {}).values())
    (gradient.square().sum() + logits.sum() + others).backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert all(weight.grad.any() for weight in network.parameters() if weight.ndim == 4)


@given(shapes.filter(lambda shape: max(shape) <= 20), classes | vectors, st.integers(0, 99))
@settings(max_examples=8)
def test_truncation_moves_styles_toward_one_image_of_a_condition(shape, condition, seed):
    torch.manual_seed(seed)
    network = built(StyleGenerator(width=4, style=8), shape, condition=condition)
    latent, other = torch.randn(2, 6, 5)
    given_ = conditions_for(6, condition)
    with torch.no_grad():
        torch.testing.assert_close(network.truncated(latent, 1.0, *given_).images, network(latent, *given_).images)
        whole, half, typical = (network.truncated(latent, by, *given_) for by in (1.0, 0.5, 0.0))
        assert torch.equal(typical.images, network.truncated(other, 0.0, *given_).images)
    between = (whole.extras["style"] + typical.extras["style"]) / 2
    torch.testing.assert_close(half.extras["style"], between)
    if condition is None:
        mean = network(torch.randn(4000, 5)).extras["style"].mean(dim=0)
        assert (typical.extras["style"] - mean).abs().max() < 0.2 * whole.extras["style"].std()
    else:
        assert not torch.equal(typical.images[0], typical.images[1])  # each condition has a mean of its own


def test_generator_draws_noise_and_mixes_styles_in_training_only():
    torch.manual_seed(0)
    plain, latent = StyleGenerator(width=8, mixing=0).build(Spec((1, 16, 16), 5)), torch.randn(64, 5)
    assert torch.equal(plain(latent).images, plain(latent).images)  # the strength of noise is 0 at first
    for layer in plain.layers:
        layer.noise_strength.data.fill_(0.5)
    assert not torch.equal(plain(latent).images, plain(latent).images)
    assert torch.equal(plain.eval()(latent).images, plain(latent).images)
    mixing = StyleGenerator(width=8, mixing=0.5).build(Spec((1, 16, 16), 5))
    styles = mixing(latent).extras["style"]
    changed = (styles != styles[:, :1]).any(dim=2)  # (N, L): which layers have another style than the first
    assert changed.any(dim=1).double().mean().item() == pytest.approx(0.5, abs=0.2)
    assert (changed[:, 1:] >= changed[:, :-1]).all()  # it is that of the last layers
    assert len(changed.sum(dim=1).unique()) > 2
    styles = mixing.eval()(latent).extras["style"]
    assert torch.equal(styles, styles[:, :1].expand_as(styles))


def test_noise_differs_between_images_and_is_that_of_a_buffer_in_evaluation():
    layer = StyledLayer(2, 3, 4, (5, 6))
    layer.noise_strength.data.fill_(1.0)
    same = torch.zeros(2, 2, 5, 6), torch.zeros(2, 4)
    noisy = layer(*same)
    assert not torch.equal(noisy[0], noisy[1])
    assert torch.equal(noisy[0, 0], noisy[0, 1])
    fixed = layer.eval()(*same)
    torch.testing.assert_close(fixed[1, 2], nn.functional.leaky_relu(layer.noise, 0.2) * math.sqrt(2))


def test_mapping_learns_slowly_and_scales_latents_to_mean_square_one():
    network = built(StyleGenerator(width=4, style=8))
    latent = torch.randn(3, 5)
    torch.testing.assert_close(network(latent).images, network(7 * latent).images)
    assert network.mapping.layers[0].weight_scale == pytest.approx(0.01 * math.sqrt(2 / 5))


def test_networks_have_fewer_channels_at_high_resolutions():
    def parameters(component, side):
        with torch.device("meta"):
            network = component.build(Spec((3, side, side), 64))
        return sum(weight.numel() for weight in network.parameters())

    for component in (StyleGenerator(), StyleDiscriminator()):
        assert parameters(component, 512) < 1.3 * parameters(component, 32)
    assert parameters(StyleGenerator(width=512), 32) > 3 * parameters(StyleGenerator(width=256), 32)
