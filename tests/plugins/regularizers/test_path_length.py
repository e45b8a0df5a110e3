"""Path length regularization, against closed forms of linear generators."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.contracts import Scores, Spec
from gancore.errors import ConfigError
from gancore_plugins.networks.style import StyleGenerator
from gancore_plugins.regularizers.path_length import PathLength, path_lengths

SHAPE = (2, 3, 4)


def linear(matrix, styles):
    """Images (N, *SHAPE) that are a linear function of styles (N, S)."""
    return (styles @ matrix.T).reshape(-1, *SHAPE)


def fakes(images, styles):
    return Scores(images=images, logits=torch.zeros(len(images), 1), extras={"style": styles})


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=10)
def test_lengths_of_a_linear_generator_are_norms_of_its_transposed_matrix(size, layers, seed):
    torch.manual_seed(seed)
    matrices = torch.randn(layers, math.prod(SHAPE), size, dtype=torch.float64)
    styles = torch.randn(6, layers, size, dtype=torch.float64, requires_grad=True)
    images = sum(linear(matrix, styles[:, layer]) for layer, matrix in enumerate(matrices))
    torch.manual_seed(seed)
    lengths = path_lengths(images, styles)
    torch.manual_seed(seed)
    directions = torch.randn_like(images).flatten(1) / math.sqrt(12 * layers)  # of 3x4 pixels
    torch.testing.assert_close(lengths, (directions @ matrices.sum(dim=0)).norm(dim=1))


@given(st.integers(3, 10))
def test_weight_of_two_is_that_of_the_paper(log_side):
    side, layers = 2**log_side, 2 * log_side - 2  # of a generator that begins at 4x4
    of_the_paper = math.log(2) / (side**2 * (math.log(side) - math.log(2)))
    assert math.isclose(PathLength().weight / (side**2 * layers), of_the_paper)


def test_penalty_is_the_mean_square_from_the_running_mean_and_has_a_gradient():
    torch.manual_seed(0)
    matrix = torch.randn(24, 5, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    penalty, means = PathLength().build(Spec(SHAPE)).double(), []
    for number in range(1, 4):
        images = linear(matrix, styles)
        torch.manual_seed(number)
        found = penalty.penalty(fakes(images, styles), fakes(images, styles))
        torch.manual_seed(number)
        lengths = path_lengths(images, styles)
        means.append(lengths.mean())
        mean = torch.stack(means).mean()  # at first the plain mean of all batches
        torch.testing.assert_close(penalty.mean, mean.detach())
        expected = (lengths - mean.detach()).square().mean()
        torch.testing.assert_close(found, expected)
        for one, other in zip(*(torch.autograd.grad(each, matrix) for each in (found, expected)), strict=True):
            torch.testing.assert_close(one, other)
    penalty.batches.fill_(5000)
    before = penalty.mean.clone()
    images = linear(matrix, styles)
    torch.manual_seed(9)
    penalty.penalty(fakes(images, styles), fakes(images, styles))
    torch.manual_seed(9)
    torch.testing.assert_close(penalty.mean, before + 0.01 * (path_lengths(images, styles).mean().detach() - before))


def test_penalty_reaches_every_layer_of_the_style_generator():
    torch.manual_seed(0)
    network = StyleGenerator(width=4, style=6).build(Spec((1, 8, 8), 5))
    for layer in network.layers:
        layer.bias.data.normal_()
    generated = network(torch.randn(4, 5))
    scores = fakes(generated.images, generated.extras["style"])
    PathLength().build(Spec((1, 8, 8))).penalty(scores, scores).backward()
    weights = {name: weight for name, weight in network.named_parameters() if "mapping" not in name}
    untouched = [name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()]
    assert set(untouched) <= {"bias", *(name for name in weights if name.endswith((".bias", "noise_strength")))}


def test_generator_without_styles_is_refused():
    scores = Scores(images=torch.zeros(2, *SHAPE), logits=torch.zeros(2, 1))
    with pytest.raises(ConfigError, match="needs a generator with the extra 'style'"):
        PathLength().build(Spec(SHAPE)).penalty(scores, scores)
