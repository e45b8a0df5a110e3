"""training.freeze: what is frozen keeps every bit, everything else trains as before."""

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from gancore.config.run import Options
from gancore.errors import ConfigError
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import Hinge, assembled, dataset, equal, trained, weights

DEEP = {
    "generator": {"name": "mlp", "widths": [5, 4], "normalization": "batch"},
    "discriminator": {"name": "mlp", "widths": [5, 4], "normalization": "batch", "dropout": 0.3},
}
PREFIXES = [
    *(f"generator.{part}" for part in ("0", "0.bias", "1", "3", "6")),
    *(f"discriminator.{part}" for part in ("0", "0.bias", "1", "4", "8")),
]


def changed(gan, before):
    """The names of weights and buffers that training has changed."""
    after = weights(gan)
    return {
        name
        for name, value in before.items()
        if name.startswith(("generator.", "discriminator.")) and not torch.equal(value, after[name])
    }


@settings(max_examples=12)
@given(
    freeze=st.lists(st.sampled_from(PREFIXES), unique=True, min_size=1),
    optimizer=st.sampled_from(
        [{}, {"name": "AdamW", "weight_decay": 0.1}, {"name": "SGD", "momentum": 0.9, "weight_decay": 0.1}]
    ),
)
def test_frozen_parameters_and_statistics_keep_every_bit_and_no_others(freeze, optimizer):
    gan = assembled(DEEP, optimizer={"generator": optimizer, "discriminator": optimizer}, training={"freeze": freeze})
    before = weights(gan)
    # A bias in front of batch normalization has a gradient of rounding errors only.
    unfrozen = {
        name
        for name in before
        if name.startswith(("generator.", "discriminator."))
        and not any(name == prefix or name.startswith(f"{prefix}.") for prefix in freeze)
    }
    trained(gan)
    found = changed(gan, before)
    assert found <= unfrozen
    assert {name for name in unfrozen if not name.endswith("bias")} <= found


def test_frozen_run_resumes_to_the_same_bits():
    changes = {"training": {"freeze": ["discriminator.0", "generator.1"]}, "ema": {"half_life_kimg": 0.01}}
    expected, _ = trained(assembled(DEEP, changes))
    first = assembled(DEEP, changes)
    list(islice(train(first), 3))
    second = assembled(DEEP, changes)
    second.restore(weights(first), first.state.place())
    assert equal(trained(second)[0], expected)
    moments = {name for name in expected if name.startswith("optimizer.discriminator.exp_avg.")}
    assert {name.split(".")[3] for name in moments} == {"1", "4", "5", "8"}


def test_frozen_weights_are_the_same_in_the_average():
    gan = assembled(DEEP, training={"freeze": ["generator.0"]}, ema={"half_life_kimg": 0.01})
    before = weights(gan)
    after, _ = trained(gan)
    for name in ("0.weight", "0.bias"):
        assert torch.equal(after[f"ema.{name}"], before[f"generator.{name}"])
    assert not torch.equal(after["ema.3.weight"], before["generator.3.weight"])


def test_frozen_statistics_of_the_average_are_not_estimated_anew():
    ema = {"half_life_kimg": 0.01, "refresh_batchnorm": True}
    gan = assembled(DEEP, training={"freeze": ["generator.1"]}, ema=ema)
    before = weights(gan)
    trained(gan)
    gan.refresh_averages()
    after = weights(gan)
    assert torch.equal(after["ema.1.running_mean"], before["generator.1.running_mean"])
    assert not torch.equal(after["ema.4.running_mean"], after["generator.4.running_mean"])


def test_freezing_nothing_changes_no_bit():
    expected, _ = trained(assembled(DEEP))
    found, _ = trained(assembled(DEEP, training={"freeze": []}))
    assert equal(found, expected)


def test_frozen_spectral_normalization_keeps_its_vectors():
    gan = assembled(
        discriminator={"name": "mlp", "widths": [4], "normalization": "spectral"},
        training={"freeze": ["discriminator.0"]},
    )
    before = weights(gan)
    trained(gan)
    found = changed(gan, before)
    assert not [name for name in found if name.startswith("discriminator.0.")]
    assert "discriminator.2.parametrizations.weight.0._v" in found


def test_frozen_parameters_of_a_group_leave_the_group_without_effect():
    groups = [{"prefix": "0", "lr_factor": 0.1}, {"prefix": "3", "lr_factor": 0.5}]
    gan = assembled(DEEP, optimizer={"generator": {"groups": groups}}, training={"freeze": ["generator.0"]})
    assert [group["prefix"] for group in gan.optimizers["generator"].param_groups] == ["", "3"]
    trained(gan)


def test_frozen_parameters_are_not_clipped():
    clipping = {"regularizers": {"weight-clipping": {"limit": 1e-4}}, "training": {"freeze": ["discriminator.0"]}}
    gan = assembled(clipping)
    before = weights(gan)
    after, _ = trained(gan)
    assert torch.equal(after["discriminator.0.weight"], before["discriminator.0.weight"])
    assert after["discriminator.3.weight"].abs().max() <= 1e-4


def test_frozen_parameters_in_an_own_optimizer_ignore_old_gradients():
    generator = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 1))
    discriminator[1].weight.grad = torch.ones_like(discriminator[1].weight)
    before = discriminator[1].weight.detach().clone()
    options = Options(duration="3 steps", training={"freeze": ["discriminator.1"]})
    own = {"discriminator": optim.SGD(discriminator.parameters(), lr=0.1, weight_decay=0.1)}
    gan = GAN(generator, discriminator, dataset(), Hinge(), options, "cpu", optimizers=own)
    list(train(gan))
    assert torch.equal(discriminator[1].weight, before)


@pytest.mark.parametrize(
    ("freeze", "words"),
    [
        (["discriminator.blocks.0"], r"training\.freeze\.0: unknown prefix of parameters 'discriminator\.blocks\.0'"),
        (["generator.0", "generator.0.weigth"], r"freeze\.1.*did you mean 'generator\.0\.weight'"),
        (["critic"], "Known: discriminator, generator"),
        ([""], "unknown prefix"),
        (["generator.0.weigh"], "unknown prefix"),
        (["discriminator"], "leaves no parameter of the discriminator to train"),
        (["generator.0", "generator.2"], "leaves no parameter of the generator to train"),
    ],
)
def test_freezing_what_is_not_there_or_everything_is_refused(freeze, words):
    with pytest.raises(ConfigError, match=words):
        assembled(training={"freeze": freeze})
