"""Packed discriminators: which images a pack has, and what each image gets of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore import score
from gancore.contracts import Discriminator, Output, Spec
from gancore.errors import ConfigError
from gancore_plugins.networks.dcgan import DCGANDiscriminator
from gancore_plugins.networks.mlp import MLPDiscriminator
from gancore_plugins.networks.packed import PackedDiscriminator
from gancore_plugins.regularizers.gradients import R1


class Seen(Discriminator):
    """Keeps what it is built for, and returns sums of packs."""

    name = "seen"

    def build(self, spec):
        module = _Sum()
        module.spec = spec
        return module


class _Sum(nn.Module):
    def forward(self, packs):
        total = packs.flatten(1).sum(dim=1, keepdim=True)
        return Output(total, (packs,), {"twice": 2 * total})


@given(size=st.integers(1, 11), count=st.integers(2, 4), shape=st.sampled_from([(3,), (2, 4, 5), (1, 6)]))
@settings(max_examples=30)
def test_pack_joins_consecutive_images_along_channels_and_each_image_gets_its_logits(size, count, shape):
    images = torch.randn(size, *shape)
    module = PackedDiscriminator(of=Seen(), count=count).build(Spec(shape, mirrors=True))
    assert module.of.spec == Spec((count * shape[0], *shape[1:]), mirrors=True)
    out = module(images)
    for position in range(size):
        first = position // count * count
        members = [
            images[number if number < size else (number - size) % size] for number in range(first, first + count)
        ]
        pack = torch.cat(members)
        torch.testing.assert_close(out.features[0][position], pack)
        torch.testing.assert_close(out.logits[position, 0], pack.sum(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.heads["twice"], 2 * out.logits)
    assert len(out.logits) == len(out.features[0]) == size


def test_r1_is_the_number_of_images_times_that_of_the_packs():
    module = PackedDiscriminator(of=MLPDiscriminator(widths=(8,)), count=3).build(Spec((2,)))
    images = torch.randn(6, 2, requires_grad=True)
    packs = images.detach().reshape(2, 6).requires_grad_()
    found, of_packs = (
        R1().penalty(score(each, inputs), None) for each, inputs in ((module, images), (module.of, packs))
    )
    torch.testing.assert_close(found, 3 * of_packs)


def test_packs_of_images_are_scored_by_any_discriminator():
    module = PackedDiscriminator(of=DCGANDiscriminator(width=4)).build(Spec((3, 16, 16)))
    assert module(torch.zeros(5, 3, 16, 16)).shape == (5, 1)
    assert module.mixes_samples


def test_conditions_and_extra_inputs_are_refused():
    with pytest.raises(ConfigError, match="'packed' supports no conditional runs"):
        PackedDiscriminator().build(Spec((2,), condition=3))

    class Extra(Seen):
        def build(self, spec):
            module = super().build(spec)
            module.extra_inputs = ("code",)
            return module

    with pytest.raises(ConfigError, match="no discriminator with extra inputs, such as 'seen'"):
        PackedDiscriminator(of=Extra()).build(Spec((2,)))
