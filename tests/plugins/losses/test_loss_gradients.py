"""Gradients of every loss, compared with numerical differentiation."""

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


def scores_of(logits, heads, labels):
    return replace(scores([0.0] * len(labels)), logits=logits, heads={"classes": heads}, condition=labels)


@given(count=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_gradients_equal_numerical_differentiation(loss, count, seed):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (2, count), generator=rng)
    shapes = ((count, 1), (count, CLASSES)) * 2
    inputs = [torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def of_discriminator(*tensors):
        return loss().discriminator(scores_of(*tensors[:2], labels[0]), scores_of(*tensors[2:], labels[1]))

    def of_generator(*tensors):
        real = scores_of(*tensors[:2], labels[0]) if loss.needs_real else None
        return loss().generator(scores_of(*tensors[2:], labels[1]), real)

    assert torch.autograd.gradcheck(of_discriminator, inputs)
    assert torch.autograd.gradcheck(of_generator, inputs)
