"""Scores of real and fake images that D computed in one pass: the halves of what it returned."""

import copy

import pytest
import torch
from torch import nn

from gancore.contracts import Output
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.networks import halves_of
from helpers.tiny_components import Hinge, dataset, equal


@pytest.mark.parametrize("last", [torch.sigmoid, torch.tanh, torch.exp, torch.clone])
def test_halves_may_be_changed_in_place_whatever_the_last_layer_saved(last):
    gradients = []
    for double in (torch.mul, torch.Tensor.mul_):
        inputs = torch.linspace(-1, 1, 6).reshape(6, 1).requires_grad_()
        logits = last(inputs)
        real, fake = halves_of(Output(logits, (logits,), {"aux": logits}))
        total = double(real.logits, 2) + double(fake.logits, 3) + 4 * real.features[0] + fake.heads["aux"]
        total.sum().backward()
        gradients.append(inputs.grad)
    assert torch.equal(*gradients)


class InPlace(Hinge):
    """The hinge loss, which changes the logits in place."""

    def discriminator(self, real, fake):
        return real.logits.neg_().add_(1).relu().mean() + fake.logits.add_(1).relu().mean()


class OutOfPlace(Hinge):
    """The same with new tensors."""

    def discriminator(self, real, fake):
        return real.logits.neg().add(1).relu().mean() + fake.logits.add(1).relu().mean()


def test_loss_may_change_logits_in_place_in_one_pass():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    images, states = dataset(), []
    for loss in (InPlace(), OutOfPlace()):
        gan = GAN(*copy.deepcopy((generator, discriminator)), images, loss, device="cpu")
        assert gan.critic.one_pass
        next(train(gan))
        states.append(gan.discriminator.state_dict())
    assert equal(*states)
