from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gancore.config.run import Options, RunConfig
from gancore.contracts import Loss
from gancore.errors import CheckpointError, ConfigError, PluginError
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import (
    Hinge,
    Noise,
    TinyDiscriminator,
    TinyGenerator,
    assembled,
    dataset,
    equal,
    trained,
    weights,
)


@pytest.mark.parametrize("key", ["generator.0.weight", "discriminator.0.weight", "random.noise"])
def test_gan_weights_and_noise_depend_on_the_seed(key):
    assert not torch.equal(weights(assembled(seed=0))[key], weights(assembled(seed=1))[key])


def test_resumed_run_equals_the_uninterrupted_one():
    changes = {
        "discriminator": {"name": "tiny", "dropout": 0.5},
        "ema": {},
        "optimizer": {"generator": {"name": "SGD", "momentum": 0.5}},
    }
    expected, steps = trained(assembled(changes))
    first = assembled(changes)
    steps_before = train(first)
    for _ in range(3):
        next(steps_before)
    second = assembled(changes)
    second.restore(weights(first), first.state.place())
    steps_after = list(train(second))

    assert equal(weights(second), expected)
    assert [step.step for step in steps_after] == [4, 5, 6]
    assert [float(step.generator_loss) for step in steps_after] == [float(step.generator_loss) for step in steps[3:]]


@pytest.mark.parametrize("with_ema", [True, False])
def test_begin_from_copies_weights_only(with_ema):
    first, _ = trained(assembled(**({"ema": {"half_life_kimg": 0.1}} if with_ema else {})))
    gan = assembled(ema={"more_kimg": [2.5]}, seed=1)
    initial = weights(gan)
    gan.state.init_weights(first)
    for name, value in weights(gan).items():
        kind, _, key = name.partition(".")
        average = "ema" if with_ema else "generator"
        source = {"ema": average, "ema_2_5": average}.get(kind, kind)
        is_network = kind in ("generator", "discriminator", "ema", "ema_2_5")
        expected = first[f"{source}.{key}"] if is_network else initial[name]
        assert torch.equal(value, expected), name
    assert gan.state.place() == {"step": 0, "images_seen": 0, "seconds": 0.0, "nonfinite": 0}


def test_conditional_training_needs_classes():
    with pytest.raises(ConfigError, match="classes"):
        assembled(training={"conditional": True})


class CountingLoss(nn.Module):
    """A loss with state that changes in every discriminator step, like BEGAN's k."""

    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.zeros(()))

    def discriminator(self, real, fake):
        self.k += 0.25
        return fake.logits.mean() - real.logits.mean() + self.k * 0

    def generator(self, fake, real):
        return -fake.logits.mean()


class Counting(Loss):
    """The component of CountingLoss."""

    name = "counting"

    def build(self, spec):
        return CountingLoss()


def test_loss_state_is_saved_with_the_run():
    generator = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    gan = GAN(generator, discriminator, dataset(), Counting(), Options(duration="3 steps"), "cpu")
    assert gan.state.tensors()["loss.k"] == 0  # the preflight used a copy
    list(train(gan))
    assert gan.state.tensors()["loss.k"] == 0.75


def test_ema_follows_the_generator_and_copies_its_buffers():
    gan = assembled(generator={"name": "mlp", "normalization": "batch"}, ema={"half_life_kimg": 0.004})
    for _ in train(gan):
        pass
    assert gan.sampler() is gan.ema
    assert not gan.ema.training
    assert not any(parameter.requires_grad for parameter in gan.ema.parameters())
    for (name, averaged), current in zip(gan.ema.named_buffers(), gan.generator.buffers(), strict=True):
        assert torch.equal(averaged, current), name
    assert not torch.equal(gan.ema[0].weight, gan.generator[0].weight)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax", "Adagrad", "Adadelta", "NAdam", "RAdam", "RMSprop", "SGD"])
def test_optimizer_state_is_restored_for_each_optimizer(name):
    config = {"optimizer": {"generator": {"name": name}, "discriminator": {"name": name}}}
    gan = assembled(config)
    steps = train(gan)
    for _ in range(3):
        next(steps)
    same = assembled(config)
    same.restore(weights(gan), gan.state.place())
    list(steps)
    list(train(same))
    assert equal(weights(gan), weights(same))


def test_restore_twice_from_the_same_tensors_gives_the_same_run():
    gan = assembled()
    steps = train(gan)
    for _ in range(3):
        next(steps)
    saved, place = weights(gan), gan.state.place()
    copies = {name: value.clone() for name, value in saved.items()}
    first, second = assembled(), assembled()
    first.restore(saved, place)
    list(train(first))
    assert equal(saved, copies)  # training changed a copy
    second.restore(saved, place)
    list(train(second))
    assert equal(weights(first), weights(second))


def without(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("random.noise"), "lacks.*random.noise"),
        (without("generator.0.weight"), "another generator"),
        (lambda tensors: tensors.update({"ema.0.weight": torch.zeros(2)}), "holds.*ema"),
        (lambda tensors: tensors.update({"optimizer.generator.exp_avg.9.weight": torch.zeros(2)}), "exp_avg.9.weight"),
        (lambda tensors: tensors.update({"optimizer.generator.exp_avg.0.weight": torch.zeros(1)}), r"shape \(1,\)"),
    ],
)
def test_restore_rejects_tensors_that_do_not_fit(damage, words):
    gan = assembled()
    next(train(gan))
    tensors = weights(gan)
    damage(tensors)
    with pytest.raises(CheckpointError, match=words):
        assembled().restore(tensors, gan.state.place())
    with pytest.raises(CheckpointError, match="lacks the progress"):
        assembled().restore(weights(gan), {"step": 3})


def test_dataset_built_from_random_numbers_depends_only_on_the_seed():
    class RandomDataset(Noise):
        name = "random"

        def build(self, root):
            return TensorDataset(torch.randn(10, 2), torch.zeros(10).long())

    parts = {
        "generator": TinyGenerator(),
        "discriminator": TinyDiscriminator(),
        "loss": Hinge(),
        "dataset": RandomDataset(),
    }
    first, same, other = (
        next(GAN.assemble(RunConfig(**parts, seed=seed, batch_size=10), Path(), "cpu").feed.batches(0)).images
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first.sort(0).values, other.sort(0).values)


@pytest.mark.parametrize("part", ["generator", "discriminator", "loss", "dataset"])
def test_component_that_cannot_be_built_is_named(part):
    def fail(self, *arguments):
        raise ValueError("not today")

    base = {"generator": TinyGenerator, "discriminator": TinyDiscriminator, "loss": Hinge, "dataset": Noise}
    parts = {key: cls() for key, cls in base.items()}
    parts[part] = type("Broken", (base[part],), {"name": "broken", "build": fail})()
    with pytest.raises(PluginError, match=rf"the {part} 'broken' failed in build\(\): ValueError: not today"):
        GAN.assemble(RunConfig(**parts, batch_size=10), Path(), "cpu")
