"""Every loss pulls at what D said as its values say: autograd against differences of nearby values."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.contracts import Loss
from helpers.loss_inputs import scores
from helpers.tiny_components import catalog

LOSSES = [loss for loss, plugin in catalog().offers(Loss) if plugin.package == "gancore"]
CLASSES = 3


def said(logits, heads, labels):
    return replace(scores([0.0] * len(labels)), logits=logits, heads={"classes": heads}, labels=labels)


@given(count=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_both_players_losses_is_how_they_change(loss, count, seed):
    dice = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (2, count), generator=dice)
    forms = ((count, 1), (count, CLASSES)) * 2
    given = [torch.randn(form, generator=dice, dtype=torch.float64, requires_grad=True) for form in forms]

    def of_discriminator(*tensors):
        return loss().discriminator(said(*tensors[:2], labels[0]), said(*tensors[2:], labels[1]))

    def of_generator(*tensors):
        real = said(*tensors[:2], labels[0]) if loss.needs_real else None
        return loss().generator(said(*tensors[2:], labels[1]), real)

    assert torch.autograd.gradcheck(of_discriminator, given)
    assert torch.autograd.gradcheck(of_generator, given)
