"""Parameters of losses and regularizers: who trains them, and how they are saved, resumed and checked."""

import pytest
import torch
from torch import nn

from gancore.contracts import Loss, Spec
from gancore.errors import PluginError
from gancore.training.loop import train
from helpers.contract_parts import LATENT, SHAPE, Pulling, PullingAtWork, PullingG, Scaled, ScaledAtWork, small_gan
from helpers.tiny_components import Hinge, TinyDiscriminator, TinyGenerator, equal, trained, weights

REGULARIZERS = {"regularizers": {"mine": Pulling(interval=2), "of-g": PullingG()}}
OWNERS = {"loss.network.weight": "discriminator", "regularizer.mine.target": "discriminator"}
OWNERS |= {"regularizer.of-g.target": "generator"}
MOMENTS = {
    "optimizer.loss.momentum_buffer.network.weight",
    "optimizer.regularizer.mine.momentum_buffer.target",
    "optimizer.regularizer.of-g.momentum_buffer.target",
}


def complete(**options):
    return small_gan(Scaled(), parts=REGULARIZERS, **options)


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_parameters_are_trained_by_the_optimizer_of_their_player(frozen):
    rates = {player: {"name": "SGD", "lr": 0.0 if player == frozen else 0.1} for player in OWNERS.values()}
    run = complete(optimizer=rates)
    before = weights(run)
    list(train(run))
    changed = {name: not torch.equal(before[name], run.state.tensors()[name]) for name in OWNERS}
    assert changed == {name: owner != frozen for name, owner in OWNERS.items()}


def test_parameter_of_a_loss_moves_by_the_gradient_of_the_discriminators_loss():
    class Shifted(ScaledAtWork):
        def discriminator(self, real, fake):
            return (real.logits - fake.logits).mean() + 3 * self.network.bias.sum() + 0 * self.network.weight.sum()

    loss = type("Shift", (Scaled,), {"name": "shift", "build": lambda self, spec: Shifted()})()
    run = small_gan(loss, optimizer={player: {"name": "SGD", "lr": 0.25} for player in OWNERS.values()})
    before = run.loss.objective.network.bias.item()
    next(train(run))
    assert run.loss.objective.network.bias.item() == pytest.approx(before - 0.25 * 3)


def test_parameters_and_their_moments_are_saved():
    run = complete()
    list(train(run))
    assert {*OWNERS, *MOMENTS} <= run.state.tensors().keys()


@pytest.mark.parametrize(
    "optimizer", [{"name": "SGD", "momentum": 0.5}, {"name": "Adam"}], ids=lambda each: each["name"]
)
@pytest.mark.parametrize("stop", [1, 3])
def test_run_with_parameters_in_every_part_resumes_bit_for_bit(optimizer, stop):
    options = {"duration": "6 steps", "ema": {}, "optimizer": dict.fromkeys(OWNERS.values(), optimizer)}
    expected, _ = trained(complete(**options))
    first, second = complete(**options), complete(**options)
    steps = train(first)
    for _ in range(stop):
        next(steps)
    second.restore(weights(first), first.state.place())
    assert equal(weights(second), weights(first))
    assert equal(trained(second)[0], expected)


def test_preflight_leaves_parameters_as_they_were():
    run = complete()
    assert run.penalties["mine"].target.item() == run.penalties["of-g"].target.item() == 0.5
    assert all(parameter.grad is None for module in run.state.modules.values() for parameter in module.parameters())


class OnlyForG(ScaledAtWork):
    """A latent code's head as in InfoGAN (arXiv:1606.03657), wrongly used in G's loss alone."""

    def discriminator(self, real, fake):
        return Hinge().discriminator(real, fake)


class Idle(PullingAtWork):
    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(1, 1)


def test_preflight_rejects_a_parameter_that_only_the_generators_loss_uses():
    words = r"parameter 'network\.weight' of the loss has no gradient in the update of the discriminator"
    with pytest.raises(PluginError, match=words) as error:
        small_gan(type("Wrong", (Scaled,), {"name": "wrong", "build": lambda self, spec: OnlyForG()})())
    assert error.value.part == "loss"


@pytest.mark.parametrize(("base", "player"), [(Pulling, "discriminator"), (PullingG, "generator")])
def test_preflight_rejects_a_parameter_of_a_regularizer_without_a_gradient(base, player):
    wrong = type("Wrong", (base,), {"name": "wrong", "build": lambda self, spec: Idle()})
    words = rf"parameter 'extra\.weight' of the regularizer\.mine has no gradient in the update of the {player}"
    with pytest.raises(PluginError, match=words) as error:
        small_gan(parts={"regularizers": {"mine": wrong(interval=3)}})
    assert error.value.part == "regularizer.mine"


def test_preflight_accepts_parameters_that_are_frozen():
    class Frozen(OnlyForG):
        def __init__(self):
            super().__init__()
            self.requires_grad_(False)

    run = small_gan(type("Fine", (Scaled,), {"name": "fine", "build": lambda self, spec: Frozen()})())
    before = run.loss.objective.network.weight.clone()
    list(train(run))
    assert torch.equal(run.loss.objective.network.weight, before)


def test_generators_update_gives_no_gradient_to_what_the_discriminators_optimizer_trains():
    run = complete()
    gradients = []
    watched = [*run.discriminator.parameters(), *run.loss.objective.parameters(), run.penalties["mine"].target]
    for parameter in watched:
        parameter.register_hook(gradients.append)
    next(train(run))
    assert len(gradients) == len(watched), "one gradient each, in D's update"


class Sharing(ScaledAtWork):
    """A loss that has a module of a network as a part of its own."""

    def __init__(self, module):
        super().__init__()
        self.module = module


@pytest.mark.parametrize("fakes", ["shared", "fresh"])
@pytest.mark.parametrize("sharer", ["loss", "discriminator"])
def test_preflight_rejects_a_parameter_that_both_players_would_train(sharer, fakes):
    """A loss calls G with the gradient of D's loss: D's optimizer would then move G."""
    generator = TinyGenerator().build(Spec(SHAPE, LATENT))
    discriminator = TinyDiscriminator().build(Spec(SHAPE))
    loss = Sharing(generator[0]) if sharer == "loss" else Hinge()
    if sharer == "discriminator":
        discriminator[0].shared = generator[0]
    match = rf"parameter '(module|0\.shared)\.weight' of the {sharer} is also in the generator"
    with pytest.raises(PluginError, match=match) as caught:
        small_gan(loss, generator=lambda: generator, discriminator=lambda: discriminator, training={"fakes": fakes})
    assert caught.value.part == sharer


def test_preflight_accepts_frozen_parameters_in_both_players():
    generator = TinyGenerator().build(Spec(SHAPE, LATENT))
    generator[0].requires_grad_(False)
    trained(small_gan(Sharing(generator[0]), generator=lambda: generator))


class BuildsPlainObject(Loss):
    """A loss whose `build` returns an object that is no module: nothing would train or save its network."""

    name = "plain-object"
    needs_real = True

    def build(self, spec):
        return PlainObject()


class PlainObject:
    """The object of BuildsPlainObject."""

    def __init__(self):
        self.network = nn.Linear(1, 1)

    def discriminator(self, real, fake):
        return Hinge().discriminator(real, fake) + self.network(fake.logits).square().mean()

    def generator(self, fake, real):
        return -fake.logits.mean()


def test_loss_must_build_itself_or_a_module():
    with pytest.raises(PluginError, match=r"must return the loss itself, or an nn\.Module; received PlainObject"):
        small_gan(BuildsPlainObject())
