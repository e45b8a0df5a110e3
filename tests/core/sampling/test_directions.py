import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gancore.contracts import Generated, Spec
from gancore.errors import ConfigError
from gancore.sampling.directions import Directions, find_directions, move
from gancore.training.loop import train
from gancore.utils.random import states_of
from gancore_plugins.networks.dcgan import DCGANGenerator
from gancore_plugins.networks.mlp import MLPGenerator
from gancore_plugins.networks.r3gan import R3GANGenerator
from gancore_plugins.networks.resnet import ResNetGenerator
from gancore_plugins.networks.subpixel import SubpixelGenerator
from helpers.tiny_components import Constant, Faithful, assembled
from helpers.untrained import gray, untrained

Z = 6
FAMILIES = {
    "dcgan": DCGANGenerator(width=4),
    "mlp": MLPGenerator(widths=(16, 16)),
    "mlp with batch normalization": MLPGenerator(widths=(16, 16), normalization="batch"),
    "r3gan": R3GANGenerator(width=8, blocks=1, group_width=4),
    "resnet": ResNetGenerator(width=4),
    "subpixel": SubpixelGenerator(width=4, depth=1),
}
FIRST = {"r3gan": "basis_gains", "resnet": "start.0"}


class Net(nn.Module):
    """A first part on the latent, and a nonlinear second part that makes pictures of 16 pixels."""

    def __init__(self, first, width, before=None):
        super().__init__()
        self.first, self.before = first, before or nn.Identity()
        self.second = nn.Sequential(nn.Tanh(), nn.Linear(width, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))

    def forward(self, latent):
        return self.second(self.first(self.before(latent)).flatten(1))


class Normalized(nn.Module):
    """Latents of unit length."""

    def forward(self, latent):
        return nn.functional.normalize(latent)


class Skip(nn.Module):
    """A half of the latent enters each of two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(Z // 2, 8), nn.Linear(Z // 2 + 8, 8), nn.Linear(8, 16)

    def forward(self, latent):
        early, late = latent.chunk(2, dim=1)
        hidden = self.second(torch.cat([late, self.first(early).tanh()], dim=1)).tanh()
        return Generated(self.last(hidden).unflatten(1, (1, 4, 4)), {"hidden": hidden})


class PerClass(nn.Module):
    """A latent that is multiplied by an embedding of its class."""

    def __init__(self, classes):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(classes, Z), nn.Linear(Z, 16)

    def forward(self, latent, labels):
        return self.layer(latent * self.embedding(labels)).tanh().unflatten(1, (1, 4, 4))


def expected(weights):
    """The right singular vectors of weights (D, Z) as rows, each with a positive largest entry, and the values."""
    _, values, vectors = torch.linalg.svd(weights.detach().double(), full_matrices=False)
    signs = torch.stack([row[row.abs().argmax()].sign() for row in vectors])
    return (vectors * signs[:, None]).float(), values.float()


def assert_factorization(found, weights):
    vectors, values = expected(weights)
    assert found.method == "factorization"
    torch.testing.assert_close(found.strengths / found.deviation, values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.vectors, vectors, rtol=1e-3, atol=1e-3)


def plane(**changes):
    return Spec((1, 4, 4), Z, **changes)


def rotation(size):
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(1)))[0]


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_directions_of_a_linear_generator_are_its_singular_vectors(distribution):
    vectors, strengths = rotation(Z), torch.arange(Z, 0, -1.0)
    net = nn.Sequential(nn.Linear(Z, 16), nn.Unflatten(1, (1, 4, 4)))
    net[0].weight.data = rotation(16)[:, :Z] @ torch.diag(strengths) @ vectors
    found = find_directions(untrained(net, plane(), distribution=distribution))
    torch.testing.assert_close((found.vectors @ vectors.T).abs(), torch.eye(Z), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.strengths, strengths * found.deviation)
    assert found.deviation == pytest.approx(1 if distribution == "normal" else math.sqrt(1 / 3))


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_directions_are_those_of_the_first_layer_without_the_columns_of_the_condition(family, classes):
    trained = untrained(FAMILIES[family], gray(Z, classes), seed=3)
    layer = trained.generator.get_submodule(FIRST.get(family, "0"))
    assert_factorization(find_directions(trained), layer.weight[:, :Z])


@pytest.mark.parametrize("condition", [(5,), (1, 4, 4)])
def test_directions_leave_out_tensor_conditions(condition):
    trained = untrained(MLPGenerator(widths=(16,)), gray(Z, condition))
    assert_factorization(find_directions(trained), trained.generator[0].weight[:, :Z])


def test_directions_of_a_transposed_convolution_on_the_latent_are_those_of_its_weights():
    net = Net(nn.Sequential(nn.Unflatten(1, (Z, 1, 1)), nn.ConvTranspose2d(Z, 3, 2)), 12)
    found = find_directions(untrained(net, plane()))
    assert_factorization(found, net.first[1].weight.flatten(1).T)


def test_directions_of_a_layer_with_spectral_normalization_are_those_of_its_normalized_weights():
    net = Net(spectral_norm(nn.Linear(Z, 12)), 12)
    trained = untrained(net, plane())
    assert_factorization(find_directions(trained), net.first.weight)


def test_directions_include_a_normalization_of_the_latent_by_fixed_statistics():
    norm = nn.BatchNorm1d(Z)
    norm.running_var = torch.arange(1.0, Z + 1)
    net = Net(nn.Linear(Z, 12), 12, before=norm)
    found = find_directions(untrained(net, plane()))
    assert_factorization(found, net.first.weight / (norm.running_var + norm.eps).sqrt())


NONLINEAR = {
    "normalized latent": (lambda: Net(nn.Linear(Z, 12), 12, before=Normalized()), plane()),
    "latent in two layers": (Skip, plane()),
    "latent times an embedding": (lambda: PerClass(3), plane(condition=3)),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_directions_are_those_of_activations_where_the_first_layer_is_not_linear_in_all_of_the_latent(name):
    net, spec = NONLINEAR[name]
    found = find_directions(untrained(net(), spec))
    assert (found.method, len(found)) == ("activations", Z)
    assert_orthonormal(found)


def test_directions_of_activations_are_close_to_those_of_the_weights_behind_a_normalization():
    net = Net(nn.Linear(Z, 12), 12, before=Normalized())
    with torch.no_grad():
        net.first.weight[:, 0] *= 8
    found = find_directions(untrained(net, plane()))
    assert abs(float(found.vectors[0] @ expected(net.first.weight)[0][0])) > 0.99


def assert_orthonormal(found):
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(len(found)), rtol=0, atol=1e-5)
    assert (found.strengths.diff() <= 0).all()
    assert found.strengths[-1] > 0
    assert (found.vectors.gather(1, found.vectors.abs().argmax(1, keepdim=True)) > 0).all()


@given(seed=st.integers(0, 2**30), name=st.sampled_from([*FAMILIES, *NONLINEAR]))
@settings(max_examples=15)
def test_directions_are_orthonormal_ordered_repeatable_and_leave_the_process_as_it_was(seed, name):
    if name in NONLINEAR:
        net, spec = NONLINEAR[name]
        trained = untrained(net(), spec)
    else:
        trained = untrained(FAMILIES[name], gray(Z, 2), seed=seed)
    weights = {key: value.clone() for key, value in trained.generator.state_dict().items()}
    torch.manual_seed(seed)
    before = states_of(torch.device("cpu"))["cpu"]
    found = find_directions(trained)
    assert torch.equal(before, states_of(torch.device("cpu"))["cpu"])
    assert all(torch.equal(value, weights[key]) for key, value in trained.generator.state_dict().items())
    assert not any(part._forward_hooks for part in trained.generator.modules())
    assert_orthonormal(found)
    torch.manual_seed(seed + 1)
    again = find_directions(trained)
    assert torch.equal(found.vectors, again.vectors)
    assert torch.equal(found.strengths, again.strengths)
    fewer = find_directions(trained, 2)
    assert torch.equal(fewer.vectors, found.vectors[:2])
    assert len(fewer) == 2


def test_directions_skip_entries_of_the_latent_that_change_nothing():
    found = find_directions(untrained(Faithful(), Spec((1, 2, 2), Z)))
    assert len(found) == 4
    assert not found.vectors[:, 4:].any()


def test_directions_are_at_most_as_many_as_the_units_of_the_first_layer():
    assert len(find_directions(untrained(MLPGenerator(widths=(2, 16)), gray(Z)))) == 2


@pytest.mark.parametrize("count", [0, -1])
def test_directions_refuse_a_count_below_one(count):
    with pytest.raises(ConfigError, match="at least 1"):
        find_directions(untrained(MLPGenerator(), gray(Z)), count)


def test_directions_need_a_generator_that_uses_its_latent():
    with pytest.raises(ConfigError, match="do not depend on its latent"):
        find_directions(untrained(Constant(), Spec((1, 2, 2), Z)))


DIRECTIONS = Directions(rotation(Z)[:4], torch.tensor([4.0, 3.0, 2.0, 1.0]), "factorization", 0.5)


@given(amounts=st.dictionaries(st.integers(1, 4), st.floats(-3, 3)), count=st.integers(1, 3))
def test_move_adds_amounts_in_standard_deviations_in_any_order(amounts, count):
    latents = torch.randn(count, Z, generator=torch.Generator().manual_seed(count))
    moved = move(DIRECTIONS, latents, amounts)
    along = (moved - latents) @ DIRECTIONS.vectors.T / 0.5
    wanted = torch.tensor([amounts.get(number, 0.0) for number in range(1, 5)]).expand(count, 4)
    torch.testing.assert_close(along, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(moved, move(DIRECTIONS, latents, dict(reversed(amounts.items()))))
    assert torch.equal(moved[0], move(DIRECTIONS, latents[0], amounts))
    assert moved.dtype == latents.dtype


@pytest.mark.parametrize("amounts", [{}, {1: 0.0}])
def test_move_by_nothing_keeps_every_bit(amounts):
    latents = torch.randn(2, Z)
    assert torch.equal(move(DIRECTIONS, latents, amounts), latents)


@pytest.mark.parametrize(
    ("amounts", "problem"),
    [({0: 1.0}, "no direction 0"), ({5: 1.0}, "no direction 5"), ({2: math.nan}, "must be finite")],
)
def test_move_refuses_other_numbers_and_amounts(amounts, problem):
    with pytest.raises(ConfigError, match=problem):
        move(DIRECTIONS, torch.zeros(1, Z), amounts)


def change(trained, found, number):
    """The mean difference of pictures when their latents move by one deviation along a direction."""
    latents = torch.randn(32, Z, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return (trained.generator(move(found, latents, {number: 1.0})) - trained.generator(latents)).abs().mean()


def test_move_along_the_first_direction_changes_pictures_more_than_along_the_last():
    first, last = 0.0, 0.0
    for seed in range(3):
        gan = assembled(
            generator={"name": "mlp", "widths": [32, 32]}, dataset={"name": "digits"}, latent={"dim": Z},
            duration="50 steps", seed=seed,
        )  # fmt: skip
        for _ in train(gan):
            pass
        learned = untrained(gan.generator, Spec((1, 8, 8), Z))
        found = find_directions(learned)
        first, last = first + change(learned, found, 1), last + change(learned, found, len(found))
    assert first > 2 * last
