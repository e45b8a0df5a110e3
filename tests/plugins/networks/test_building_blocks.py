"""The building blocks that networks share, and what each paper says of its networks."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from gancore.contracts import Spec
from gancore_plugins.networks.attention import SelfAttention
from gancore_plugins.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gancore_plugins.networks.head import DiscriminatorHead, MinibatchStddev
from gancore_plugins.networks.mlp import MLPDiscriminator
from gancore_plugins.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from gancore_plugins.networks.resnet import ResNetDiscriminator, ResNetGenerator
from gancore_plugins.networks.subpixel import SubpixelDiscriminator


@pytest.mark.parametrize(
    "component",
    [
        MLPDiscriminator(normalization="spectral", widths=(9, 7)),
        DCGANDiscriminator(normalization="spectral", width=6),
        ResNetDiscriminator(width=6, attention=True),
    ],
)
def test_spectral_norm_makes_every_largest_singular_value_one(component):
    torch.manual_seed(0)
    network = component.build(Spec((1, 8, 8), condition=3))
    for _ in range(300):  # one power iteration each
        network(torch.randn(2, 1, 8, 8), torch.tensor([0, 1]))
    normed = [part for part in network.modules() if isinstance(part, nn.Linear | nn.Conv2d | nn.Embedding)]
    assert len(normed) >= 3
    for part in normed:
        assert torch.linalg.matrix_norm(part.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.02)


def test_attention_starts_as_the_identity_and_is_twice_differentiable():
    attention, features = SelfAttention(8), torch.randn(2, 8, 4, 6)
    assert torch.equal(attention(features), features)
    attention = attention.double()
    attention.gamma.data.fill_(0.7)
    features = features.double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda images: attention(images[:1, :, :2, :2]), features, fast_mode=True)


@given(st.integers(1, 5), st.integers(1, 5))
def test_attention_accepts_any_number_of_pixels(height, width):
    attention = SelfAttention(3)
    attention.gamma.data.fill_(1.0)
    features = torch.randn(2, 3, height, width)
    assert attention(features).shape == features.shape


def test_attention_equals_its_formula():
    attention = SelfAttention(8).double()
    attention.gamma.data.fill_(1.0)
    features = torch.randn(1, 8, 3, 3, dtype=torch.float64)  # odd sides, so nothing is pooled
    pixels = features.flatten(2)[0].T
    query, key, value, out = (
        layer.weight.flatten(1) for layer in (attention.query, attention.key, attention.value, attention.out)
    )
    weights = ((pixels @ query.T) @ (pixels @ key.T).T).softmax(dim=1)
    expected = pixels + weights @ (pixels @ value.T) @ out.T
    torch.testing.assert_close(attention(features).flatten(2)[0].T, expected)


@given(count=st.integers(1, 9), group=st.integers(2, 5))
def test_minibatch_stddev_of_equal_images_is_zero(count, group):
    features = torch.randn(1, 2, 3, 3).expand(count, 2, 3, 3)
    output = MinibatchStddev(group)(features)
    assert output.shape == (count, 3, 3, 3)
    assert torch.equal(output[:, :2], features)
    assert output[:, 2].abs().max() <= 2e-4


def test_minibatch_stddev_is_the_mean_standard_deviation_of_a_group():
    features = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    spread = MinibatchStddev(4)(features)[:, 2]
    expected = (features.var(dim=0, correction=0) + 1e-8).sqrt().mean()
    torch.testing.assert_close(spread, expected.expand(4, 3, 3))
    # With groups of two, images 0 and 2 are compared, and 1 and 3.
    spread = MinibatchStddev(2)(features)[:, 2, 0, 0]
    assert spread[0] == spread[2]
    assert spread[1] == spread[3]
    assert spread[0] != spread[1]


@given(st.integers(1, 6), st.integers(2, 5))
def test_head_projects_labels_on_the_features(features, num_classes):
    head, batch = DiscriminatorHead(features, num_classes), torch.randn(num_classes, features)
    logits = head(batch, torch.arange(num_classes))
    expected = head.linear(batch).squeeze(1) + (head.embedding.weight * batch).sum(dim=1)
    torch.testing.assert_close(logits.squeeze(1), expected)


@given(features=st.integers(1, 6), size=st.integers(1, 5), count=st.integers(1, 4))
def test_head_projects_vectors_by_a_linear_map_on_the_features(features, size, count):
    head, batch, vectors = DiscriminatorHead(features, (size,)), torch.randn(count, features), torch.randn(count, size)
    expected = head.linear(batch).squeeze(1) + ((vectors @ head.embedding.weight.T) * batch).sum(dim=1)
    torch.testing.assert_close(head(batch, vectors).squeeze(1), expected)
    assert head.embedding.bias is None  # the zero vector adds nothing
    assert isinstance(DiscriminatorHead(features, (size,), classifier=True)(batch, vectors), torch.Tensor)


@given(st.integers(1, 6), st.integers(2, 5))
def test_classifier_head_reads_features_and_not_labels(features, num_classes):
    torch.manual_seed(0)
    head, batch = DiscriminatorHead(features, num_classes, classifier=True), torch.randn(num_classes, features)
    first, second = (head(batch, labels) for labels in (torch.arange(num_classes), torch.zeros(num_classes).long()))
    assert not torch.equal(first.logits, second.logits)
    assert torch.equal(first.heads["classes"], head.classifier(batch))
    assert torch.equal(first.heads["classes"], second.heads["classes"])
    assert DiscriminatorHead(features, None, classifier=True)(batch).shape == (num_classes, 1)


@pytest.mark.parametrize("kind", [DCGANDiscriminator, ResNetDiscriminator, SubpixelDiscriminator])
def test_classifier_field_adds_a_head_to_discriminators(kind):
    network = kind(width=4, classifier=True).build(Spec((1, 8, 8), condition=3))
    output = network(torch.randn(2, 1, 8, 8), torch.tensor([0, 2]))
    assert output.logits.shape == (2, 1)
    assert output.heads["classes"].shape == (2, 3)


def test_dcgan_has_the_channels_of_its_paper():
    generator, discriminator = (
        DCGANGenerator().build(Spec((3, 64, 64), 100)),
        DCGANDiscriminator().build(Spec((3, 64, 64))),
    )
    up = [(layer.in_channels, layer.out_channels) for layer in generator if isinstance(layer, nn.ConvTranspose2d)]
    down = [part.out_channels for part in discriminator.modules() if isinstance(part, nn.Conv2d)]
    assert up == [(512, 256), (256, 128), (128, 64), (64, 3)]
    assert down == [64, 128, 256, 512]
    norms = [part.num_features for part in discriminator.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms == [128, 256, 512]
    assert generator[0].weight.std().item() == pytest.approx(0.02, rel=0.02)


@given(width=st.integers(1, 4), size=st.sampled_from([8, 16, 32, 64]), seed=st.integers(0, 9))
@settings(max_examples=10)
def test_dcgan_weights_up_to_64_pixels_do_not_depend_on_the_limit(width, size, seed):
    for kind in (DCGANGenerator, DCGANDiscriminator):
        networks = []
        for limit in (None, 4096):
            torch.manual_seed(seed)
            networks.append(kind(width=width, max_width=limit).build(Spec((3, size, size), 5)).state_dict())
        assert networks[0].keys() == networks[1].keys()
        assert all(torch.equal(value, networks[1][key]) for key, value in networks[0].items())


@pytest.mark.parametrize(("limit", "most"), [(None, 16), (5, 5), (1, 1), (4096, 128)])
def test_dcgan_channels_of_large_images_have_a_limit(limit, most):
    networks = (
        kind(width=2, max_width=limit).build(Spec((1, 512, 512), 3)) for kind in (DCGANGenerator, DCGANDiscriminator)
    )
    for network in networks:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        assert max(max(layer.in_channels, layer.out_channels) for layer in layers) == most


def test_dcgan_without_normalization_has_no_batch_norm():
    networks = [
        DCGANGenerator(normalization="off", width=4).build(Spec((1, 16, 16), 3)),
        DCGANDiscriminator(normalization="off", width=4).build(Spec((1, 16, 16))),
    ]
    assert not any(isinstance(part, nn.BatchNorm2d) for network in networks for part in network.modules())


@pytest.mark.parametrize(("side", "halvings"), [(32, 2), (28, 2), (64, 3), (8, 1), (16, 1)])
def test_resnet_discriminator_halves_until_a_side_is_at_most_8(side, halvings):
    network = ResNetDiscriminator(width=4).build(Spec((3, side, side)))
    sizes = []
    network.body[-2].register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2]))
    network(torch.randn(1, 3, side, side))
    assert sizes == [side >> halvings]


def test_resnet_conditional_batch_norm_starts_equal_for_all_classes():
    plain, conditional = ResNetGenerator(width=4), ResNetGenerator(width=4)
    torch.manual_seed(0)
    network = conditional.build(Spec((1, 8, 8), 3, 5))
    latent = torch.randn(6, 3)
    first = network(latent, torch.zeros(6, dtype=torch.int64))
    assert torch.equal(first, network(latent, torch.full((6,), 4)))
    torch.manual_seed(0)
    assert sum(p.numel() for p in network.parameters()) > sum(
        p.numel() for p in plain.build(Spec((1, 8, 8), 3)).parameters()
    )


def test_resnet_initial_weights_are_larger_in_residual_branches_only():
    def bound(layer):
        fan_in, fan_out = layer.weight[0].numel(), layer.weight.flatten(1).shape[0] * layer.weight[0, 0].numel()
        return math.sqrt(6 / (fan_in + fan_out))

    network = ResNetGenerator(width=16).build(Spec((3, 8, 8), 3))
    block = network.blocks[0]
    for layer, gain in ((network.end[2], 1), (block.shortcut, 1), (block.convolutions[1], 2**0.5)):
        assert 0.9 < layer.weight.abs().max().item() / (gain * bound(layer)) <= 1


def test_r3gan_residual_branches_start_at_zero():
    network = R3GANDiscriminator(width=8, blocks=3).build(Spec((1, 8, 8)))
    features = torch.randn(2, 8, 4, 4)
    for stage in network.stages:
        assert torch.equal(stage(features), features)


def test_r3gan_initial_weights_shrink_with_the_number_of_blocks():
    few, many = (R3GANGenerator(width=64, blocks=blocks).build(Spec((1, 8, 8), 3)) for blocks in (1, 8))
    first = [network.stages[0][0].branch[0].weight.std().item() for network in (few, many)]
    assert first[1] / first[0] == pytest.approx(8**-0.25, rel=0.05)
    assert first[0] == pytest.approx(math.sqrt(2 / 1.04 / 64) * 2**-0.25, rel=0.05)


@pytest.mark.parametrize("kind", [R3GANGenerator, R3GANDiscriminator])
def test_r3gan_group_width_must_divide_the_channels(kind):
    with pytest.raises(ValidationError, match="group_width 16 must divide twice the width, 20"):
        kind(width=10, group_width=16)
