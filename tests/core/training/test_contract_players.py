"""`Scores.players`: which parameters and inputs get a gradient in each player's update, and what is left alone."""

import warnings
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gancore.contracts import Generated, Regularizer, Scores
from gancore.errors import PluginError
from gancore.training.loop import train
from helpers.contract_parts import LATENT, SHAPE, Encoding, small_gan
from helpers.tiny_components import Hinge, equal, trained

PLAYERS = ("discriminator", "generator")


class Probing(Hinge):
    """A loss that calls `probe(player, scores of real or fake images)` in each update, and is otherwise a hinge."""

    name = "probing"
    needs_real = True

    def discriminator(self, real, fake):
        type(self).probe("discriminator", fake)
        return super().discriminator(real, fake)

    def generator(self, fake, real):
        type(self).probe("generator", fake)
        return super().generator(fake, real)


def probing(probe):
    return type("Probe", (Probing,), {"name": "probe", "probe": staticmethod(probe)})()


def generate(players, inputs):
    return players.generate(inputs["latent"]).images


def encode(players, inputs):
    return players.encode(inputs["images"])["code"]


def score(players, inputs):
    return players.score(inputs["images"]).logits


def score_generated(players, inputs):
    return players.score(players.generate(inputs["latent"]).images).logits


CALLS = {  # the call, the input that it differentiates, and the parts that get a gradient in each player's update
    "generate": (generate, "latent", {"generator": {"decoder"}, "discriminator": set()}),
    "encode": (encode, "images", {"generator": {"encoder"}, "discriminator": set()}),
    "score": (score, "images", {"generator": set(), "discriminator": {"discriminator"}}),
    "score generated": (
        score_generated,
        "latent",
        {"generator": {"decoder"}, "discriminator": {"discriminator"}},
    ),
}


@pytest.mark.parametrize("fakes", ["shared", "fresh"])
@pytest.mark.parametrize("call", CALLS)
def test_players_give_gradients_to_inputs_and_to_the_player_that_is_updated(call, fakes):
    called, differentiated, expected = CALLS[call]
    found = {player: [] for player in PLAYERS}

    def probe(player, scores):
        players = scores.players
        inputs = {
            "latent": torch.randn(3, LATENT).requires_grad_(),
            "images": torch.randn(3, *SHAPE).requires_grad_(),
        }
        parts = {
            "decoder": players.generator.decoder,
            "encoder": players.generator.encoder,
            "discriminator": players.discriminator,
        }
        kept = {parameter: parameter.grad for part in parts.values() for parameter in part.parameters()}
        for parameter in kept:
            parameter.grad = None
        called(players, inputs).square().sum().backward()
        assert inputs[differentiated].grad.abs().max() > 0
        reached = [{parameter.grad is not None for parameter in part.parameters()} for part in parts.values()]
        assert all(len(each) == 1 for each in reached), "all parameters of a part, or none"
        found[player].append({name for name, each in zip(parts, reached, strict=True) if each == {True}})
        for parameter, gradient in kept.items():
            parameter.grad = gradient

    run = small_gan(probing(lambda *_: None), generator=Encoding, training={"fakes": fakes})
    run.loss.objective = probing(probe)
    with warnings.catch_warnings(action="ignore"):  # nothing trains the encoder
        list(train(run))
    assert found == {player: [expected[player]] * 4 for player in PLAYERS}


@pytest.mark.parametrize("fakes", ["shared", "fresh"])
def test_calls_of_players_leave_the_run_unchanged(fakes):
    """Extra calls with no part in the loss change no weight, no requires_grad, and no random stream."""

    def probe(player, scores):
        for call, _, _ in CALLS.values():
            call(scores.players, {"latent": torch.ones(3, LATENT), "images": torch.zeros(3, *SHAPE)})

    options = {"generator": Encoding, "training": {"fakes": fakes}, "ema": {}}
    with warnings.catch_warnings(action="ignore"):  # nothing trains the encoder
        expected, _ = trained(small_gan(probing(lambda *_: None), **options))
        run = small_gan(probing(probe), **options)
        assert equal(trained(run)[0], expected)
    assert all(each.requires_grad for module in (run.generator, run.discriminator) for each in module.parameters())


def spectral_generator():
    return nn.Sequential(spectral_norm(nn.Linear(LATENT, 16)), nn.Tanh(), nn.Unflatten(1, SHAPE))


def spectral_discriminator():
    return nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(16, 6)), nn.Tanh(), nn.Linear(6, 1))


@pytest.mark.parametrize("fakes", ["shared", "fresh"])
def test_spectral_normalization_of_the_frozen_player_does_not_iterate(fakes):
    def probe(player, scores):
        for _ in range(3):
            if player == "discriminator":
                scores.players.generate(torch.ones(2, LATENT))
            else:
                scores.players.score(torch.zeros(2, *SHAPE))

    options = {"generator": spectral_generator, "discriminator": spectral_discriminator, "training": {"fakes": fakes}}
    expected, _ = trained(small_gan(probing(lambda *_: None), **options))
    run = small_gan(probing(probe), **options)
    assert equal(trained(run)[0], expected)
    assert all(part.training for network in (run.generator, run.discriminator) for part in network.modules())


class ThroughBoth(Hinge):
    """A loss in which both players' updates differentiate through both networks."""

    name = "through-both"

    def discriminator(self, real, fake):
        again = fake.players.generate(fake.latent).images
        return super().discriminator(real, fake) + fake.players.score(again).logits.square().mean()

    def generator(self, fake, real):
        again = fake.players.generate(-fake.latent).images
        return super().generator(fake, real) + fake.players.score(again).logits.square().mean()


@pytest.mark.parametrize("fakes", ["shared", "fresh"])
def test_loss_may_call_a_generator_with_spectral_normalization_in_both_updates(fakes):
    options = {"generator": spectral_generator, "discriminator": spectral_discriminator, "training": {"fakes": fakes}}
    assert len(list(train(small_gan(ThroughBoth(), **options)))) == 4


def test_players_score_as_the_step_does():
    """D's scores of the same images are those that the loss receives."""

    def probe(player, scores):
        again = scores.players.score(scores.images, scores.condition)
        torch.testing.assert_close(again.logits, scores.logits)
        assert isinstance(again, Scores)
        assert again.players is scores.players

    run = small_gan(probing(probe))
    assert len(list(train(run))) == 4


def test_players_augment_the_images_that_they_score():
    from gancore_plugins.augmentations.diffaugment import DiffAugment

    seen = []

    def probe(player, scores):
        augmented = scores.players.score(scores.images).logits.detach()
        seen.append(augmented - scores.players.discriminator(scores.images).detach())

    run = small_gan(probing(probe), parts={"augmentations": {"shift": DiffAugment()}})
    next(train(run))
    assert max(float(each.abs().max()) for each in seen) > 1e-3


def test_path_length_penalty_of_the_generator_uses_players():
    """A penalty on G's Jacobian, as in StyleGAN 2 (arXiv:1912.04958), differentiates twice through `generate`."""

    class PathLength(Regularizer):
        name = "path-length"
        player = "generator"

        def penalty(self, real, fake):
            latent = fake.latent.detach().requires_grad_()
            images = fake.players.generate(latent, fake.condition).images
            (gradient,) = torch.autograd.grad(images.square().sum(), latent, create_graph=True)
            return gradient.square().sum(1).mean()

    run = small_gan(parts={"regularizers": {"path": PathLength()}})
    plain, regularized = (deepcopy(trained(each)[0]) for each in (small_gan(), run))
    assert not torch.equal(plain["generator.0.weight"], regularized["generator.0.weight"])


def test_scores_without_networks_say_so():
    scores = Scores(images=torch.zeros(1, 1), logits=torch.zeros(1, 1))
    with pytest.raises(AttributeError, match=r"no networks, so `players\.generate` is not available; pass `players`"):
        scores.players.generate(torch.zeros(1, 1))


def test_encode_of_a_generator_without_it_is_rejected_by_name():
    def probe(player, scores):
        scores.players.encode(scores.images)

    with pytest.raises(PluginError, match="the generator has no method `encode`") as error:
        small_gan(probing(probe))
    assert "add encode(images)" in error.value.hint


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (3, "extras of a generator must be tensors by name; received int"),
        ({"code": torch.zeros(1)}, r"extra 'code' of a generator must begin with N = 4.*received shape \(1,\)"),
        ({"code": None}, "extra 'code' of a generator .*received NoneType"),
    ],
)
@pytest.mark.parametrize("method", ["forward", "encode"])
def test_preflight_rejects_extras_that_are_no_tensors_of_the_batch(method, returned, words):
    class Wrong(Encoding):
        def forward(self, latent):
            made = super().forward(latent)
            return Generated(made.images, returned) if method == "forward" else made

        def encode(self, images):
            return returned

    def probe(player, scores):
        scores.players.encode(scores.images)

    with pytest.raises(PluginError, match=words):
        small_gan(probing(probe if method == "encode" else lambda *_: None), generator=Wrong)
