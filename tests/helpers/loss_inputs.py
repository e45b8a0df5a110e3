"""Scores of a discriminator, and functions for closed forms of losses."""

import math

import torch
from hypothesis import strategies as st

from gancore.contracts import Scores

logits = st.lists(st.floats(-30, 30), min_size=1, max_size=6)


@st.composite
def pairs(draw):
    """Draw equally many real and fake logits."""
    count = draw(st.integers(1, 6))
    values = st.lists(st.floats(-30, 30), min_size=count, max_size=count)
    return draw(values), draw(values)


def scores(values):
    """Return scores of one logit per image, in double precision, with gradients enabled."""
    tensor = torch.tensor(values, dtype=torch.float64).reshape(-1, 1).requires_grad_()
    return Scores(images=torch.zeros(len(values), 1), logits=tensor)


def gradient(loss, *batches):
    """Return the gradient of the loss with respect to the logits of each batch."""
    return [tensor.flatten().tolist() for tensor in torch.autograd.grad(loss, [batch.logits for batch in batches])]


def softplus(value):
    return max(value, 0) + math.log1p(math.exp(-abs(value)))


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def mean(values):
    return sum(values) / len(values)
