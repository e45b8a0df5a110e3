"""A GAN of the user's own modules, optimizers and modes, and samples from the middle of a run."""

from copy import deepcopy
from itertools import islice

import pytest
import torch
from torch import nn, optim
from torch.utils.data import TensorDataset

import gancore
from gancore import GAN, ConfigError, Loss, Options, Run, train

SHAPE = (1, 4, 4)
DATA = TensorDataset(torch.randint(0, 256, (40, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))


def networks():
    torch.manual_seed(0)
    generator = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16), nn.Tanh()
    )
    generator.append(nn.Unflatten(1, SHAPE))
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def gan(generator=None, discriminator=None, loss="bce", *, arguments=None, **options):
    own, other = networks()
    given = {"duration": "6 steps", "batch_size": 20, "latent": {"dim": 8}, **options}
    return GAN(generator or own, discriminator or other, DATA, loss, Options(**given), "cpu", **(arguments or {}))


def state_after(made, between=lambda _: None):
    for step in train(made):
        between(step)
    return {name: tensor.clone() for name, tensor in made.state.tensors().items()}


def assert_identical(one, two):
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@pytest.mark.parametrize("ema", [None, {}])
def test_draw_samples_does_not_change_the_run(ema):
    drawn, made = [], gan(ema=ema)
    state = state_after(made, lambda _: drawn.append(gancore.draw_samples(made, 3, seed=1)))
    assert_identical(state, state_after(gan(ema=ema)))
    assert drawn[0].shape == (3, *SHAPE)
    assert drawn[0].dtype == torch.uint8
    assert not torch.equal(drawn[0], drawn[-1])


def test_own_optimizer_with_means_of_moments_is_restored():
    def new():
        generator, discriminator = networks()
        own = {"generator": optim.Adafactor(generator.parameters(), lr=0.01)}
        return gan(generator, discriminator, arguments={"optimizers": own})

    whole = state_after(new())
    assert whole["optimizer.generator.row_var.0.weight"].shape == (16, 1)
    first, second = new(), new()
    list(islice(train(first), 3))
    second.restore(first.state.tensors(), first.state.place())
    assert_identical(state_after(second), whole)


def test_sampler_in_training_mode_changes_the_run():
    """The difference that `draw_samples` avoids is real."""
    made = gan()
    changed = state_after(made, lambda _: made.sampler()(made.latent(3)))
    plain = state_after(gan())
    assert not torch.equal(changed["random.noise"], plain["random.noise"])
    assert not torch.equal(changed["generator.1.running_mean"], plain["generator.1.running_mean"])


def test_draw_samples_depends_on_seed_and_number_alone():
    made = gan()
    few, many = gancore.draw_samples(made, 2, seed=5), gancore.draw_samples(made, 70, seed=5)
    assert torch.equal(few, many[:2])
    assert not torch.equal(few, gancore.draw_samples(made, 2, seed=6))
    with pytest.raises(ConfigError, match="at least 1; received 0"):
        gancore.draw_samples(made, 0)
    with pytest.raises(ConfigError, match="not conditional"):
        gancore.draw_samples(made, 2, conditions=torch.zeros(2, dtype=torch.int64))


def modes(module):
    return [part.training for part in module.modules()]


def test_modes_of_parts_are_kept():
    generator, discriminator = networks()
    generator[1].eval()  # frozen batch normalization
    given = modes(generator), modes(discriminator)
    mean = generator[1].running_mean.clone()
    made = gan(generator, discriminator, ema={})
    assert (modes(generator), modes(discriminator)) == given
    for _ in train(made):
        assert (modes(generator), modes(discriminator)) == given
        gancore.draw_samples(made, 2)
    assert (modes(generator), modes(discriminator)) == given
    assert torch.equal(generator[1].running_mean, mean)
    assert not any(modes(made.ema))


def test_network_in_evaluation_mode_is_put_in_training_mode():
    """A notebook that has drawn samples with `generator.eval()` trains on as before."""
    generator, discriminator = networks()
    made = gan(generator.eval(), discriminator.eval())
    assert all(modes(generator) + modes(discriminator))
    assert_identical(state_after(made), state_after(gan()))


def adam_of(*modules, **arguments):
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return optim.Adam(parameters, **{"lr": 2e-4, **arguments})


def own(generator, discriminator, **arguments):
    return {"generator": adam_of(generator, **arguments), "discriminator": adam_of(discriminator, **arguments)}


def test_own_optimizers_train_as_those_of_the_options():
    generator, discriminator = networks()
    optimizers = own(generator, discriminator, lr=1e-3, betas=(0.5, 0.9), fused=True)
    mine = state_after(gan(generator, discriminator, arguments={"optimizers": optimizers}))
    settings = {"lr": 1e-3, "betas": (0.5, 0.9)}
    assert_identical(mine, state_after(gan(optimizer={"generator": settings, "discriminator": settings})))


def test_own_optimizer_of_one_player_leaves_the_other_to_the_options():
    generator, discriminator = networks()
    optimizer = optim.SGD(generator.parameters(), lr=0.0)
    before = deepcopy(generator.state_dict())
    made = gan(generator, discriminator, arguments={"optimizers": {"generator": optimizer}})
    assert isinstance(made.optimizers["discriminator"], optim.Adam)
    for _ in train(made):
        pass
    assert all(torch.equal(generator.state_dict()[name], before[name]) for name, _ in generator.named_parameters())


def test_own_optimizer_keeps_its_groups_and_its_scheduler():
    generator, discriminator = networks()
    optimizers = own(generator, discriminator)
    optimizers["generator"] = optim.Adam(
        [
            {"params": generator[0].parameters(), "lr": 1e-5},
            {"params": [*generator[1].parameters(), *generator[4].parameters()], "lr": 1e-3},
        ]
    )
    scheduler = optim.lr_scheduler.ExponentialLR(optimizers["generator"], gamma=0.5)
    for _ in train(gan(generator, discriminator, arguments={"optimizers": optimizers})):
        scheduler.step()
    rates = [group["lr"] for group in optimizers["generator"].param_groups]
    assert rates == pytest.approx([1e-5 / 64, 1e-3 / 64])


def test_own_optimizers_resume_bit_exactly():
    def made(duration):
        generator, discriminator = networks()
        optimizers = own(generator, discriminator)
        return gan(generator, discriminator, arguments={"optimizers": optimizers}, duration=duration)

    half = made("3 steps")
    tensors, place = state_after(half), half.state.place()
    resumed = made("6 steps")
    resumed.restore(tensors, place)
    assert_identical(state_after(resumed), state_after(made("6 steps")))


def test_own_optimizer_may_hold_frozen_parameters():
    generator, discriminator = networks()
    discriminator[1].requires_grad_(False)
    before = discriminator[1].weight.clone()
    for _ in train(gan(generator, discriminator, arguments={"optimizers": own(generator, discriminator)})):
        pass
    assert torch.equal(discriminator[1].weight, before)


class Learned(Loss):
    """A loss with a parameter."""

    name = "learned"

    def build(self, spec):
        return LearnedModule()


class LearnedModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.ones(()))

    def discriminator(self, real, fake):
        return (real.logits - self.offset).square().mean() + fake.logits.square().mean()

    def generator(self, fake, real):
        return (fake.logits - self.offset).square().mean()


def test_own_optimizer_must_train_the_parameters_of_the_loss():
    generator, discriminator = networks()
    optimizers = own(generator, discriminator)
    with pytest.raises(ConfigError, match=r"does not train 1 of the parameters .*: loss: offset") as caught:
        gan(generator, discriminator, Learned(), arguments={"optimizers": optimizers})
    assert "add_param_group" in caught.value.hint
    objective = LearnedModule()
    optimizers["discriminator"].add_param_group({"params": objective.parameters()})
    for _ in train(gan(generator, discriminator, objective, arguments={"optimizers": optimizers})):
        pass
    assert objective.offset.item() != 1


WRONG = {
    "class": (lambda g, d: {"generator": optim.Adam}, {}, "received the class Adam"),
    "settings": (lambda g, d: {"generator": {"lr": 1e-3}}, {}, "received dict"),
    "another module": (lambda g, d: {"generator": adam_of(d)}, {}, "does not train 6 of the parameters"),
    "part of a module": (lambda g, d: {"generator": adam_of(g[0], g[1])}, {}, r"does not train 2 .*: 4.weight, 4.bias"),
    "both modules": (lambda g, d: {"generator": adam_of(g, d)}, {}, "has 4 parameters of other modules"),
    "unknown player": (lambda g, d: {"G": adam_of(g)}, {}, "unknown player 'G'"),
    "closure": (lambda g, d: {"generator": optim.LBFGS(g.parameters())}, {}, "LBFGS calls a closure"),
    "options too": (
        lambda g, d: {"generator": adam_of(g)},
        {"optimizer": {"generator": {"lr": 1e-3}}},
        "options.optimizer.generator has no effect",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_own_optimizer_that_does_not_fit_is_refused(case):
    make, options, message = WRONG[case]
    generator, discriminator = networks()
    with pytest.raises(ConfigError, match=message):
        gan(generator, discriminator, arguments={"optimizers": make(generator, discriminator)}, **options)


def test_parts_by_name_train_as_components():
    by_name = gan(loss="hinge", arguments={"regularizers": {"r1": {"gamma": 1.0}, "second": "r2"}})
    components = {"r1": gancore.find("regularizer", "r1", gamma=1.0), "second": gancore.find("regularizer", "r2")}
    by_object = gan(loss=gancore.find("loss", "hinge"), arguments={"regularizers": components})
    assert by_name.regularizers == components
    assert_identical(state_after(by_name), state_after(by_object))


def test_run_takes_regularizers_by_name_table_or_component(tmp_path):
    run = Run(
        "vanilla",
        dataset="digits",
        regularizers={"r1": {"gamma": 2.0}, "second": "r2", "third": gancore.find("regularizer", "dragan")},
        augmentations={"diffaugment": {}},
        out=tmp_path / "run",
    )
    assert run.config.regularizers == {
        "r1": gancore.find("regularizer", "r1", gamma=2.0),
        "second": gancore.find("regularizer", "r2"),
        "third": gancore.find("regularizer", "dragan"),
    }
    assert list(run.config.augmentations) == ["diffaugment"]
