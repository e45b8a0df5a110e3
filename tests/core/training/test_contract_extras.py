"""Extras of G: how they reach D and the loss in each update, and how an encoder is trained through D."""

import pytest
import torch
from torch import nn

from gancore.contracts import Generated
from gancore.errors import PluginError
from gancore.training.loop import train
from gancore_plugins.regularizers.gradients import R1
from helpers.contract_parts import LATENT, SHAPE, Encoding, OfPairs, Symmetric, small_gan
from helpers.tiny_components import Hinge, equal, trained, weights


class Mapped(nn.Module):
    """G with an intermediate latent, an extra that has a gradient, and a label-like extra of integers."""

    def __init__(self):
        super().__init__()
        self.mapping, self.synthesis = nn.Linear(LATENT, LATENT), nn.Sequential(nn.Linear(LATENT, 16), nn.Tanh())

    def forward(self, latent):
        code = self.mapping(latent).tanh()
        extras = {"code": code, "count": torch.arange(len(latent))}
        return Generated(self.synthesis(code).unflatten(1, SHAPE), extras)

    def encode(self, images):
        return {"code": images.flatten(1)[:, :LATENT], "unused": images}


class Recording(Hinge):
    name = "recording"
    needs_real = True


def recording(seen):
    """Return a loss that keeps the extras of both batches in both updates."""

    class Loss(Recording):
        name = "loss"

        def discriminator(self, real, fake):
            seen.append(("discriminator", real.extras, fake.extras))
            return super().discriminator(real, fake)

        def generator(self, fake, real):
            seen.append(("generator", real.extras, fake.extras))
            return super().generator(fake, real)

    return Loss()


@pytest.mark.parametrize("fakes", ["shared", "fresh"])
@pytest.mark.parametrize("joined", [True, False])
def test_extras_have_a_gradient_in_the_generators_update_only(fakes, joined):
    seen = []
    run = small_gan(Recording(), generator=Mapped, discriminator=OfPairs, training={"fakes": fakes})
    assert run.critic.one_pass
    run.critic.one_pass, run.loss.objective = joined, recording(seen)
    list(train(run))
    assert [player for player, _, _ in seen] == ["discriminator", "generator"] * 4
    for player, real, fake in seen:
        assert set(real) == {"code"}, "only what D receives"
        assert set(fake) == {"code", "count"}
        assert fake["count"].tolist() == list(range(len(fake["count"])))
        assert fake["code"].requires_grad is (player == "generator")
        assert not real["code"].requires_grad, "this encode() has no parameters"


def test_extras_reach_the_discriminator_equally_in_one_pass_and_in_two():
    together, apart = (
        small_gan(Symmetric(), generator=Encoding, discriminator=OfPairs, duration="9 steps") for _ in range(2)
    )
    assert together.critic.one_pass
    apart.critic.one_pass = False
    calls = []
    together.discriminator.register_forward_hook(lambda *_: calls.append("together"))
    apart.discriminator.register_forward_hook(lambda *_: calls.append("apart"))
    for first, second in zip(train(together), train(apart), strict=True):
        torch.testing.assert_close(first.real_logits, second.real_logits, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(first.fake_logits, second.fake_logits, rtol=1e-4, atol=1e-6)
    assert (calls.count("together"), calls.count("apart")) == (9 * 3, 9 * 4)
    for one, other in zip(weights(together).values(), weights(apart).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_encoder_is_trained_through_the_discriminator_in_the_generators_update():
    run = small_gan(Symmetric(), generator=Encoding, discriminator=OfPairs)
    gradients = []
    run.generator.encoder[1].weight.register_hook(gradients.append)
    before = run.generator.encoder[1].weight.clone()
    list(train(run))
    assert len(gradients) == 4, "one per step, although D's update encodes too"
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert not torch.equal(before, run.generator.encoder[1].weight)


def test_discriminators_update_gives_no_gradient_to_the_encoder():
    rates = {"generator": {"name": "SGD", "lr": 0.0}, "discriminator": {}}
    run = small_gan(Symmetric(), generator=Encoding, discriminator=OfPairs, optimizer=rates)
    seen = []

    class Checking(Symmetric):
        name = "checking"

        def discriminator(self, real, fake):
            seen.extend([real.extras["code"].requires_grad, fake.extras["code"].requires_grad])
            return super().discriminator(real, fake)

    run.loss.objective = Checking()
    list(train(run))
    assert seen == [False] * 8


@pytest.mark.parametrize("options", [{}, {"ema": {}, "training": {"accumulate": 2}}], ids=["plain", "accumulated"])
def test_run_with_an_encoder_and_r1_resumes_bit_for_bit(options):
    def begin():
        parts = {"regularizers": {"r1": R1(gamma=0.5, interval=2)}}
        return small_gan(Symmetric(), generator=Encoding, discriminator=OfPairs, parts=parts, **options)

    expected, _ = trained(begin())
    first, second = begin(), begin()
    next(train(first))
    second.restore(weights(first), first.state.place())
    assert equal(trained(second)[0], expected)


class Bare(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(LATENT, 16), nn.Tanh(), nn.Unflatten(1, SHAPE))


class OnlyDecodes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = Bare()

    def forward(self, latent):
        return Generated(self.layers(latent), {"code": latent})


class EncodesUnderAnotherName(Encoding):
    def encode(self, images):
        return {"other": self.encoder(images)}


@pytest.mark.parametrize(
    ("generator", "words"),
    [
        (Bare, r"extra_inputs name 'code', which it does not get; there are \[\]"),
        (OnlyDecodes, "needs extras of real images, and the generator has no method `encode`"),
        (EncodesUnderAnotherName, r"extra_inputs name 'code', which it does not get; there are \['other'\]"),
    ],
)
def test_preflight_rejects_a_generator_without_the_extras_of_the_discriminator(generator, words):
    with pytest.raises(PluginError, match=words):
        small_gan(Symmetric(), generator=generator, discriminator=OfPairs)


def test_players_score_images_with_their_extras():
    class Again(Symmetric):
        name = "again"

        def discriminator(self, real, fake):
            for scores in (real, fake):
                again = scores.players.score(scores.images, extras=scores.extras)
                torch.testing.assert_close(again.logits, scores.logits)
            return super().discriminator(real, fake)

    assert len(list(train(small_gan(Again(), generator=Encoding, discriminator=OfPairs)))) == 4


def test_players_score_without_a_needed_extra_is_rejected_by_name():
    class Wrong(Symmetric):
        name = "wrong"

        def discriminator(self, real, fake):
            return fake.players.score(fake.images).logits.mean() + super().discriminator(real, fake)

    with pytest.raises(PluginError, match="extra_inputs name 'code'"):
        small_gan(Wrong(), generator=Encoding, discriminator=OfPairs)


class DeepEncoding(Encoding):
    """Codes of real images have one more dimension than those of fakes, which D flattens."""

    def encode(self, images):
        return {"code": self.encoder(images)[:, :, None]}


class OfFlatPairs(OfPairs):
    """D that takes codes of any shape."""

    def forward(self, images, code):
        return super().forward(images, code.flatten(1))


def test_codes_of_different_shapes_are_reported_as_an_error_of_the_generator():
    """They cannot go through D in one pass."""
    run = small_gan(Symmetric(), generator=DeepEncoding, discriminator=OfFlatPairs)
    with pytest.raises(PluginError, match=r"extra 'code' of a generator must have one shape") as caught:
        list(train(run))
    assert caught.value.part == "generator"


class OfOneName(OfPairs):
    """D whose tuple of names lacks its comma."""

    extra_inputs = "code"


def test_extra_inputs_must_be_a_tuple_of_names():
    with pytest.raises(PluginError, match="must be a tuple of names; received 'code'"):
        small_gan(Symmetric(), generator=Encoding, discriminator=OfOneName)
