"""Regularizers in the loop: when they have their say, how much it counts, and what it costs."""

import re

import pytest
import torch
from pydantic import Field
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Regularizer
from gancore.errors import ConfigError, PluginError
from gancore.settings import Schedule
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore_plugins.regularizers.gradients import R1, R2
from gancore_plugins.regularizers.lipschitz import GradientPenalty, WeightClipping
from helpers.tiny_components import Hinge, TinyDiscriminator, TinyGenerator, assembled, dataset, equal, trained, weights


class Pull(Regularizer):
    """Pulls the bias of D's last layer up; what it adds is known in advance."""

    name = "pull"
    weight: float = Field(default=1.0, description="of the negative score")

    def strength(self, moment):
        return self.weight

    def penalty(self, critic, real, fake):
        return -real.logits.mean()


class Remember(Pull):
    """The same, with a memory of its own."""

    name = "remember"

    def build(self):
        return Memory()


class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def penalty(self, critic, real, fake):
        self.calls += 1
        return -real.logits.mean()

    def project(self, module, strength):
        pass


def gan(regularizers=None, options=None, discriminator=None, objective=None, **more):
    """A small GAN of modules, the same whenever it is made."""
    torch.manual_seed(0)
    generator = TinyGenerator().build((1, 4, 4), 5, None)
    discriminator = discriminator or TinyDiscriminator().build((1, 4, 4), None)
    options = Options(duration="6 steps", batch_size=4, latent={"dim": 5}, **options or {})
    images = dataset(12)
    return GAN(
        generator, discriminator, images, objective or Hinge(), options, "cpu", regularizers=regularizers, **more
    )


def test_a_regularizer_without_strength_changes_nothing():
    plain, _ = trained(gan())
    weak, steps = trained(gan({"r1": R1(gamma=0.0), "pull": Pull(weight=0.0)}))
    assert equal(plain, weak)
    assert steps[-1].penalties == {}


def test_what_is_added_counts_for_all_updates_that_it_stands_for():
    _, steps = trained(gan({"often": Pull(weight=2.0), "rare": Pull(weight=0.5, interval=3)}))
    for number, step in enumerate(steps):
        often, rare = step.penalties["often"].item(), step.penalties["rare"].item()
        if number % 3 == 0:
            assert rare / 1.5 == pytest.approx(often / 2, rel=1e-5)
        else:  # what it was in the last update in which it had a say
            assert rare == steps[number - 1].penalties["rare"].item()
        assert step.scalars()["penalty.often"] == often


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_an_interval_counts_updates_of_the_discriminator_and_not_steps(updates):
    regularizers = {"remember": Remember(interval=4)}
    run = gan(regularizers, {"training": {"discriminator_steps": updates}})
    list(train(run))
    assert run.tensors()["regularizer.remember.calls"] == len([n for n in range(6 * updates) if n % 4 == 0])


def test_the_penalty_moves_the_weights_as_its_gradient_says():
    sgd = {"name": "SGD", "lr": 0.25}
    options = {"optimizer": {"generator": sgd, "discriminator": sgd}, "training": {"clip_norm": None}}

    class Silent(Hinge):
        name = "silent"

        def discriminator(self, real, fake):
            return 0 * real.logits.mean()

    run = gan({"pull": Pull(weight=3.0)}, options, nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), Silent())
    before = run.discriminator[1].bias.item()
    next(train(run))
    assert run.discriminator[1].bias.item() == pytest.approx(before + 0.25 * 3)


def test_a_schedule_is_read_at_the_images_seen():
    falling = Schedule(start=4.0, to=0.0, kimg=0.012)  # gone after three steps of four images
    _, steps = trained(gan({"r1": R1(gamma=falling), "half": R1(gamma=1.0)}))
    for number, step in enumerate(steps[:3]):
        ratio = step.penalties["r1"].item() / step.penalties["half"].item()
        assert ratio == pytest.approx(4 - 4 * number / 3, rel=1e-4)
    assert len({step.penalties["r1"].item() for step in steps[2:]}) == 1


@pytest.mark.parametrize("regularizers", [{"r1": R1()}, {"r2": R2()}, {"r1": R1(), "r2": R2()}])
def test_r1_and_r2_share_the_pass_of_the_loss(regularizers):
    run, calls = gan(regularizers), []
    run.discriminator.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    next(train(run))
    assert calls == [4, 4, 4]  # real, fake, and fake again for G


def test_joined_or_apart_a_lazy_penalty_gives_the_same_run_but_for_rounding():
    together, apart = (gan({"r1": R1(gamma=1.0, interval=2)}) for _ in range(2))
    for first, second in zip(train(together, joined=True), train(apart, joined=False), strict=True):
        torch.testing.assert_close(first.discriminator_loss, second.discriminator_loss, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(first.penalties["r1"], second.penalties["r1"], rtol=1e-4, atol=1e-6)


def test_a_penalty_with_points_of_its_own_repeats_bit_for_bit():
    first, second = (trained(gan({"gp": GradientPenalty()}))[0] for _ in range(2))
    assert equal(first, second)


def test_clipped_weights_stay_clipped():
    run = gan({"clip": WeightClipping(limit=0.02)})
    for _ in train(run):
        assert max(parameter.abs().max() for parameter in run.discriminator.parameters()) <= 0.02
    assert max(parameter.abs().max() for parameter in run.generator.parameters()) > 0.02


def test_a_generators_regularizer_belongs_to_its_update():
    class Bright(Regularizer):
        """Asks for bright images."""

        name = "bright"
        player = "generator"

        def penalty(self, critic, real, fake):
            assert not real.logits.requires_grad
            assert critic(fake.images.detach(), None).logits.shape == fake.logits.shape
            return -fake.images.mean()

        def project(self, module, strength):
            assert module is run.generator
            confined.append(strength)

    confined = []
    run = gan({"bright": Bright()})
    plain, _ = trained(gan())
    moved, steps = trained(run)
    assert confined == [1.0] * 6
    assert "bright" in steps[-1].penalties
    first = [key for key in plain if key.startswith("generator.")]
    assert not any(torch.equal(plain[key], moved[key]) for key in first)


def test_what_regularizers_remember_is_saved_and_put_back():
    run = gan({"remember": Remember()})
    list(train(run))
    other = gan({"remember": Remember()})
    other.restore(run.tensors(), run.place())
    assert equal(weights(other), weights(run))
    assert other.tensors()["regularizer.remember.calls"] == 6


def test_what_was_last_added_is_told_after_a_run_was_put_back_too():
    regularizers, options = {"r1": R1(interval=4)}, {}
    whole = [step.scalars() for step in train(gan(regularizers, options))]
    begun, resumed = gan(regularizers, options), gan(regularizers, options)
    steps = train(begun)
    for _ in range(2):
        next(steps)
    resumed.restore(begun.tensors(), begun.place())
    rest = [step.scalars() for step in train(resumed)]
    for line, expected in zip(rest, whole[2:], strict=True):
        assert {**line, "seconds": 0} == {**expected, "seconds": 0}
    assert "penalty.r1" in rest[0]


def test_state_of_a_regularizer_that_cannot_be_saved_is_told_before_the_first_step():
    class Secretive(Memory):
        def get_extra_state(self):
            return "a secret"

        def set_extra_state(self, state):
            pass

    mine = type("Mine", (Remember,), {"name": "mine", "build": lambda self: Secretive()})
    with pytest.raises(PluginError, match="state of the regularizer 'mine' must be tensors"):
        gan({"mine": mine()})


def test_the_rehearsal_leaves_the_memory_of_regularizers_alone():
    assert gan({"remember": Remember()}).tensors()["regularizer.remember.calls"] == 0


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        (lambda real: real.logits, r"scalar tensor with a gradient.*'mine' gave shape \(4, 1\)"),
        (lambda real: real.logits.mean().detach(), "scalar tensor with a gradient"),
        (lambda real: 3.0, "gave float"),
        (lambda real: 1 / 0, r"regularizer 'mine' failed in penalty\(\): ZeroDivisionError"),
        (lambda real: torch.autograd.grad(real.logits.sum(), real.images)[0].sum(), "regularizer 'mine' failed"),
    ],
)
def test_a_penalty_that_breaks_its_promise_is_told_before_the_first_step(penalty, words):
    mine = type("Mine", (Pull,), {"name": "mine", "penalty": lambda self, critic, real, fake: penalty(real)})
    with pytest.raises(PluginError, match=words):
        gan({"mine": mine()})


def test_a_discriminator_that_cannot_be_differentiated_twice_is_told_before_the_first_step():
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
            return self.layer(Once.apply(images.flatten(1))).square()

    assert gan(discriminator=Network())
    with pytest.raises(PluginError, match="gradient of the penalties in the discriminator's step failed"):
        gan({"r1": R1()}, discriminator=Network())


@pytest.mark.parametrize("name", ["tiny", "dcgan"])
def test_wgan_gp_refuses_a_discriminator_that_mixes_the_images_of_a_batch(name):
    mixing = {"tiny": {"batch_norm": True}, "dcgan": {"width": 2}}[name]
    apart = {"tiny": {"dropout": 0.5}, "dcgan": {"width": 2, "normalization": "spectral"}}[name]
    run = {"dataset": {"name": "noise", "shape": [1, 16, 16]}, "regularizers": {"wgan-gp": {}}}
    with pytest.raises(ConfigError, match=re.escape("regularizer 'wgan-gp'") + ".*batch normalization"):
        assembled(run, discriminator={"name": name, **mixing})
    assembled(run, discriminator={"name": name, **apart})


@pytest.mark.parametrize("limit", [0.01, 0.5])
def test_gradients_are_clipped_to_their_norm(limit):
    sgd = {"name": "SGD", "lr": 1.0}
    run = gan(options={"optimizer": {"generator": sgd, "discriminator": sgd}, "training": {"clip_norm": limit}})
    before = weights(run)
    next(train(run))
    after = weights(run)
    for player in ("generator", "discriminator"):
        moves = [(after[key] - before[key]).flatten() for key in before if key.startswith(player)]
        assert torch.cat(moves).norm() <= limit * 1.0001
        assert torch.cat(moves).norm() > 0
