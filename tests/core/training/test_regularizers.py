"""Regularizers in the loop: when they run, how their penalties are weighted, and how many passes they cost."""

import re

import pytest
import torch
from pydantic import Field
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Regularizer, Spec
from gancore.errors import ConfigError, PluginError
from gancore.settings import Schedule
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore_plugins.regularizers.gradients import R1, R2
from gancore_plugins.regularizers.lipschitz import GradientPenalty, WeightClipping
from helpers.tiny_components import Hinge, TinyDiscriminator, TinyGenerator, assembled, dataset, equal, trained, weights


class Pull(Regularizer):
    """Pulls the bias of D's last layer up. Its gradient is known in advance."""

    name = "pull"
    weight: float = Field(default=1.0, description="factor of the negative score")

    def strength(self, time):
        return self.weight

    def penalty(self, real, fake):
        return -real.logits.mean()


class CountCalls(Pull):
    """The same penalty, which also counts its calls."""

    name = "count-calls"

    def build(self, spec):
        return CallCounter()


class CallCounter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def penalty(self, real, fake):
        self.calls += 1
        return -real.logits.mean()

    def project(self, module, strength):
        pass


def gan(regularizers=None, options=None, discriminator=None, objective=None, **others):
    """Return a small GAN of modules with the same initial weights in each call."""
    torch.manual_seed(0)
    generator = TinyGenerator().build(Spec((1, 4, 4), 5))
    discriminator = discriminator or TinyDiscriminator().build(Spec((1, 4, 4)))
    options = Options(duration="6 steps", batch_size=4, latent={"dim": 5}, **options or {})
    images = dataset(12)
    return GAN(
        generator, discriminator, images, objective or Hinge(), options, "cpu", regularizers=regularizers, **others
    )


def test_regularizer_of_strength_zero_changes_nothing():
    plain, _ = trained(gan())
    inactive, steps = trained(gan({"r1": R1(gamma=0.0), "pull": Pull(weight=0.0)}))
    assert equal(plain, inactive)
    assert steps[-1].penalties == {}


def test_lazy_penalty_is_multiplied_by_its_interval():
    _, steps = trained(gan({"each": Pull(weight=2.0), "lazy": Pull(weight=0.5, interval=3)}))
    for number, step in enumerate(steps):
        each, lazy = step.penalties["each"].item(), step.penalties["lazy"].item()
        if number % 3 == 0:
            assert lazy / 1.5 == pytest.approx(each / 2, rel=1e-5)
        else:  # the value of the last update in which the penalty was computed
            assert lazy == steps[number - 1].penalties["lazy"].item()
        assert step.scalars()["penalty.each"] == each


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_interval_counts_discriminator_updates_and_not_steps(updates):
    regularizers = {"count-calls": CountCalls(interval=4)}
    run = gan(regularizers, {"training": {"discriminator_steps": updates}})
    list(train(run))
    assert run.state.tensors()["regularizer.count-calls.calls"] == len([n for n in range(6 * updates) if n % 4 == 0])


def test_penalty_moves_the_weights_by_its_gradient():
    sgd = {"name": "SGD", "lr": 0.25}
    options = {"optimizer": {"generator": sgd, "discriminator": sgd}, "training": {"clip_norm": None}}

    class ZeroLoss(Hinge):
        name = "zero"

        def discriminator(self, real, fake):
            return 0 * real.logits.mean()

    run = gan({"pull": Pull(weight=3.0)}, options, nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), ZeroLoss())
    before = run.discriminator[1].bias.item()
    next(train(run))
    assert run.discriminator[1].bias.item() == pytest.approx(before + 0.25 * 3)


def test_regularizer_schedule_follows_the_images_seen():
    schedule = Schedule(start=4.0, to=0.0, kimg=0.012)  # zero after three steps of four images
    _, steps = trained(gan({"r1": R1(gamma=schedule), "half": R1(gamma=1.0)}))
    for number, step in enumerate(steps[:3]):
        ratio = step.penalties["r1"].item() / step.penalties["half"].item()
        assert ratio == pytest.approx(4 - 4 * number / 3, rel=1e-4)
    assert len({step.penalties["r1"].item() for step in steps[2:]}) == 1


@pytest.mark.parametrize("regularizers", [{"r1": R1()}, {"r2": R2()}, {"r1": R1(), "r2": R2()}])
def test_r1_and_r2_share_the_forward_pass_of_the_loss(regularizers):
    run, calls = gan(regularizers), []
    run.discriminator.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    next(train(run))
    assert calls == [4, 4, 4]  # real, fake, and fake again for G


def test_lazy_penalty_differs_only_by_rounding_between_joined_and_separate_passes():
    joined, separate = (gan({"r1": R1(gamma=1.0, interval=2)}) for _ in range(2))
    joined.critic.one_pass, separate.critic.one_pass = True, False
    for first, second in zip(train(joined), train(separate), strict=True):
        torch.testing.assert_close(first.discriminator_loss, second.discriminator_loss, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(first.penalties["r1"], second.penalties["r1"], rtol=1e-4, atol=1e-6)


def test_gradient_penalty_is_reproducible_bit_for_bit():
    first, second = (trained(gan({"gp": GradientPenalty()}))[0] for _ in range(2))
    assert equal(first, second)


def test_weight_clipping_limits_the_weights_after_each_step():
    run = gan({"clip": WeightClipping(limit=0.02)})
    for _ in train(run):
        assert max(parameter.abs().max() for parameter in run.discriminator.parameters()) <= 0.02
    assert max(parameter.abs().max() for parameter in run.generator.parameters()) > 0.02


def test_generator_regularizer_applies_to_the_generator_update():
    class Brightness(Regularizer):
        """Favors bright images."""

        name = "brightness"
        player = "generator"

        def penalty(self, real, fake):
            assert not real.logits.requires_grad
            assert fake.players.score(fake.images.detach()).logits.shape == fake.logits.shape
            return -fake.images.mean()

        def project(self, module, strength):
            projected.append((module, strength))

    projected = []
    run = gan({"brightness": Brightness()})
    plain, _ = trained(gan())
    regularized, steps = trained(run)
    assert [strength for module, strength in projected if module is run.generator] == [1.0] * 6
    assert "brightness" in steps[-1].penalties
    first = [key for key in plain if key.startswith("generator.")]
    assert not any(torch.equal(plain[key], regularized[key]) for key in first)


def test_regularizer_state_is_saved_and_restored():
    run = gan({"count-calls": CountCalls()})
    list(train(run))
    other = gan({"count-calls": CountCalls()})
    other.restore(run.state.tensors(), run.state.place())
    assert equal(weights(other), weights(run))
    assert other.state.tensors()["regularizer.count-calls.calls"] == 6


def test_lazy_penalty_reports_its_most_recent_value():
    lines = [step.scalars() for step in train(gan({"r1": R1(interval=4)}, {}))]
    assert [line["penalty.r1"] for line in lines[1:4]] == [lines[0]["penalty.r1"]] * 3
    assert lines[4]["penalty.r1"] != lines[0]["penalty.r1"]


def test_preflight_rejects_regularizer_state_that_cannot_be_saved():
    class ExtraState(CallCounter):
        def get_extra_state(self):
            return "text"

        def set_extra_state(self, state):
            pass

    mine = type("Mine", (CountCalls,), {"name": "mine", "build": lambda self, spec: ExtraState()})
    with pytest.raises(PluginError, match="state of the regularizer 'mine' must be tensors"):
        gan({"mine": mine()})


def test_preflight_does_not_change_regularizer_state():
    assert gan({"count-calls": CountCalls()}).state.tensors()["regularizer.count-calls.calls"] == 0


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        (lambda real: real.logits, r"scalar tensor with a gradient.*'mine' returned shape \(4, 1\)"),
        (lambda real: real.logits.mean().detach(), "scalar tensor with a gradient"),
        (lambda real: 3.0, "returned float"),
        (lambda real: 1 / 0, r"regularizer 'mine' failed in penalty\(\): ZeroDivisionError"),
        (lambda real: torch.autograd.grad(real.logits.sum(), real.images)[0].sum(), "regularizer 'mine' failed"),
    ],
)
def test_preflight_rejects_a_penalty_that_is_no_scalar_with_a_gradient(penalty, words):
    mine = type("Mine", (Pull,), {"name": "mine", "penalty": lambda self, real, fake: penalty(real)})
    with pytest.raises(PluginError, match=words):
        gan({"mine": mine()})


def test_preflight_rejects_a_discriminator_that_cannot_be_differentiated_twice():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(context, images):
            return images * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, gradient):
            return gradient * 2

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 1)

        def forward(self, images):
            return Once.apply(self.layer(images.flatten(1))).square()

    assert gan(discriminator=Network())
    with pytest.raises(PluginError, match="gradient of the loss and penalties in the discriminator's step failed"):
        gan({"r1": R1()}, discriminator=Network())


@pytest.mark.parametrize("name", ["tiny", "dcgan"])
def test_wgan_gp_refuses_a_discriminator_that_mixes_samples(name):
    with_batch_norm = {"tiny": {"batch_norm": True}, "dcgan": {"width": 2}}[name]
    independent = {"tiny": {"dropout": 0.5}, "dcgan": {"width": 2, "normalization": "spectral"}}[name]
    run = {"dataset": {"name": "noise", "shape": [1, 16, 16]}, "regularizers": {"wgan-gp": {}}}
    with pytest.raises(ConfigError, match=re.escape("regularizer 'wgan-gp'") + ".*batch normalization"):
        assembled(run, discriminator={"name": name, **with_batch_norm})
    assembled(run, discriminator={"name": name, **independent})


@pytest.mark.parametrize("limit", [0.01, 0.5])
def test_clip_norm_limits_the_norm_of_gradients(limit):
    sgd = {"name": "SGD", "lr": 1.0}
    run = gan(options={"optimizer": {"generator": sgd, "discriminator": sgd}, "training": {"clip_norm": limit}})
    before = weights(run)
    next(train(run))
    after = weights(run)
    for player in ("generator", "discriminator"):
        moves = [(after[key] - before[key]).flatten() for key in before if key.startswith(player)]
        assert torch.cat(moves).norm() <= limit * 1.0001
        assert torch.cat(moves).norm() > 0


def test_loss_without_needs_real_gets_no_real_scores_while_a_regularizer_of_g_is_active():
    received = []

    class Watching(Hinge):
        name = "watching"

        def generator(self, fake, real):
            received.append(real)
            return super().generator(fake, real)

    class PullG(Pull):
        name = "pull-g"
        player = "generator"

        def penalty(self, real, fake):
            assert real is not None
            return fake.images.square().mean()

    list(train(gan({"pull": PullG()}, objective=Watching())))
    assert received
    assert all(real is None for real in received)
