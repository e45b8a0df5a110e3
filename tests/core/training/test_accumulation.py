"""Gradient accumulation: a batch in micro-batches, with the same result up to rounding."""

import pytest
import torch
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Spec
from gancore.errors import ConfigError
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore_plugins.losses.bce import NonSaturating
from gancore_plugins.losses.relativistic import Relativistic, RelativisticAverage
from gancore_plugins.regularizers.gradients import R1, R2
from gancore_plugins.regularizers.lipschitz import DRAGAN
from helpers.tiny_components import TinyDiscriminator, TinyGenerator, dataset, weights


def gan(accumulate, objective=None, generator=None, discriminator=None, regularizers=None, **training):
    torch.manual_seed(0)
    options = Options(
        duration="5 steps",
        batch_size=8,
        latent={"dim": 5},
        training={"accumulate": accumulate, **training},
        optimizer={"generator": {"name": "SGD", "lr": 0.1}, "discriminator": {"name": "SGD", "lr": 0.1}},
    )
    return GAN(
        (generator or TinyGenerator().build(Spec((1, 4, 4), 5))).double(),
        (discriminator or TinyDiscriminator().build(Spec((1, 4, 4)))).double(),
        dataset(20),  # the last batch of an epoch has four
        objective or NonSaturating(),
        options,
        "cpu",
        regularizers=regularizers or {"r1": R1(gamma=1.0, interval=2), "r2": R2(gamma=0.5)},
    )


@pytest.fixture(autouse=True)
def double():
    """Compute in double precision, so that rounding errors are small."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("objective", [NonSaturating(), Relativistic()])
@pytest.mark.parametrize("fakes", ["shared", "fresh"])
@pytest.mark.parametrize("accumulate", [2, 3, 8, 100])
def test_accumulation_changes_the_run_only_by_rounding(accumulate, fakes, objective):
    whole, parts = (gan(number, objective, fakes=fakes, discriminator_steps=2) for number in (1, accumulate))
    for first, second in zip(train(whole), train(parts), strict=True):
        assert first.images_seen == second.images_seen
        for key, value in first.scalars().items():
            if key != "seconds":
                assert second.scalars()[key] == pytest.approx(value, rel=1e-9, abs=1e-12)
        torch.testing.assert_close(first.real_logits, second.real_logits)
    for key, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[key], value, rtol=1e-9, atol=1e-12)


def test_accumulation_limits_the_batch_of_each_forward_pass():
    run, sizes = gan(4), []
    for network in (run.generator, run.discriminator):
        network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    next(train(run))
    assert max(sizes) == 2


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"generator": nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Unflatten(1, (1, 4, 4)))},
            "in this generator",
        ),
        ({"discriminator": TinyDiscriminator(batch_norm=True).build(Spec((1, 4, 4)))}, "in this discriminator"),
        ({"objective": RelativisticAverage()}, "in this loss"),
        ({"regularizers": {"dragan": DRAGAN()}}, "in this regularizer"),
    ],
)
def test_accumulation_is_refused_for_components_that_use_batch_statistics(parts, words):
    gan(1, **parts)
    with pytest.raises(ConfigError, match=f"training.accumulate .*{words}.*depend on each other"):
        gan(2, **parts)


def test_accumulation_accepts_dropout():
    assert len(list(train(gan(2, discriminator=TinyDiscriminator(dropout=0.5).build(Spec((1, 4, 4))))))) == 5
