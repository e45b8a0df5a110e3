"""The choice of threads and precision by timing a few steps: what it takes into account, and what it leaves alone."""

import gc
import math
import random
from typing import ClassVar
from weakref import WeakSet

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from gancore.config.run import Options
from gancore.contracts import Spec
from gancore.errors import PluginError
from gancore.training.choose import Choice, choose, thread_numbers
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.precision import multiplies_bfloat16
from gancore.utils.cores import usable_cores
from gancore_plugins.augmentations.ada import ADA
from gancore_plugins.regularizers.gradients import R1
from helpers.tiny_components import Hinge, TinyDiscriminator, TinyGenerator, dataset, equal, trained

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    """Let torch use two threads in the test, as on a machine with two cores."""
    if usable_cores() < 2:
        pytest.skip("needs two cores")
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


class Watched(nn.Module):
    """A network that notes with how many threads it is called, in whatever copy."""

    def __init__(self, network):
        super().__init__()
        self.network, self.threads = network, Shared()

    def forward(self, batch):
        self.threads.append(torch.get_num_threads())
        return self.network(batch)


class Shared(list):
    """A list that copies of its owner share."""

    def __deepcopy__(self, memo):
        return self


def gan(discriminator=None, optimizers=None, optimizer=None, **training):
    torch.manual_seed(0)
    return GAN(
        Watched(TinyGenerator().build(Spec((1, 4, 4), 5))),
        discriminator or TinyDiscriminator(dropout=0.5).build(Spec((1, 4, 4))),
        dataset(12),
        Hinge(),
        Options(
            duration="4 steps",
            batch_size=6,
            latent={"dim": 5},
            training=training,
            optimizer=optimizer or {"generator": {"lr": {"from": 1e-3, "to": 0.0}}},
            ema={"half_life_kimg": 1.0},
        ),
        "cpu",
        regularizers={"r1": R1(gamma=1.0, interval=2)},
        augmentations={"ada": ADA()},
        optimizers=optimizers(discriminator) if optimizers else None,
    )


@given(most=st.integers(1, 512))
def test_thread_numbers_descend_from_the_most_to_one(most):
    numbers = thread_numbers(most)
    assert numbers[0] == most
    assert numbers[-1] == 1
    assert numbers == sorted(set(numbers), reverse=True)


def test_choice_changes_no_bit_of_the_run(two_threads):
    training = {"discriminator_steps": 2, "accumulate": 2}
    chosen = gan(threads="auto", precision="auto", **training)
    ours = torch.get_rng_state()
    fixed = {"threads": chosen.options.training.threads, "precision": chosen.options.training.precision}
    explicit = gan(**fixed, **training)
    assert torch.equal(ours, torch.get_rng_state())
    assert equal(chosen.state.tensors(), explicit.state.tensors())
    trained(chosen)
    trained(explicit)
    assert equal(chosen.state.tensors(), explicit.state.tensors())


def test_choice_has_the_time_of_a_step_with_each_candidate(two_threads):
    run = gan(threads="auto", precision="auto")
    timed = run.choice.seconds_per_step
    expected = {"2 threads fp32", "1 thread fp32"}
    if multiplies_bfloat16(CPU):
        expected |= {f"{run.choice.threads} thread{'s' * (run.choice.threads > 1)} bf16"}
    assert timed.keys() == expected
    assert all(seconds > 0 for seconds in timed.values())
    assert run.options.training.threads == run.choice.threads
    assert run.options.training.precision == run.choice.precision == run.precision.name
    assert set(run.generator.threads) == {1, 2}
    for candidate in timed:
        assert candidate in str(run.choice)


def test_choice_times_nothing_where_the_config_says_both(two_threads):
    run = gan(threads=1, precision="bf16")
    assert run.choice == Choice(1, "bf16")


def test_choice_times_nothing_with_one_thread():
    assert torch.get_num_threads() == 1
    run = gan()
    assert run.choice == Choice(1, "fp32")
    assert run.options.training.threads == 1


def test_choice_of_precision_is_float32_for_points():
    options = Options(batch_size=4, latent={"dim": 5}, training={"precision": "auto"})
    spec = Spec((2,), 5)
    points = torch.utils.data.TensorDataset(torch.randn(8, 2))
    run = GAN(TinyGenerator().build(spec), TinyDiscriminator().build(spec), points, Hinge(), options, "cpu")
    assert run.choice == Choice(1, "fp32")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_are_set_while_a_step_is_computed_and_not_between_steps(threads):
    run = gan(threads=threads)
    run.generator.threads.clear()
    for _ in train(run):
        assert torch.get_num_threads() == 1
    assert set(run.generator.threads) == {threads}
    assert torch.get_num_threads() == 1


def test_threads_are_restored_after_a_step_that_fails():
    run = gan(threads=2, discriminator=Failing(6))
    with pytest.raises(PluginError, match="too many"):
        next(train(run))
    assert torch.get_num_threads() == 1


class Failing(nn.Module):
    """A discriminator that fails with a batch of this many images, which the preflight does not have."""

    def __init__(self, count):
        super().__init__()
        self.layer, self.count = nn.Linear(16, 1), count

    def forward(self, images):
        if len(images) == self.count:
            raise ValueError("too many")
        return self.layer(images.flatten(1))


def test_choice_is_one_thread_and_says_why_where_no_step_could_be_timed(two_threads):
    run = gan(discriminator=Failing(6), precision="auto")
    assert (run.choice.threads, run.choice.precision, run.choice.seconds_per_step) == (1, "fp32", {})
    (warning,) = run.choice.warnings(CPU)
    assert warning.startswith("no steps could be timed, so the choice is 1 thread, fp32: ")
    assert "too many" in warning


class FailsLater(nn.Module):
    """A discriminator that fails once it has computed in bf16, or with one thread a number of times."""

    def __init__(self, after=None):
        super().__init__()
        self.layer, self.after, self.calls = nn.Linear(16, 1), after, Shared()

    def forward(self, images):
        if len(images) == 6:
            self.calls += [torch.get_num_threads()]
            if torch.is_autocast_enabled("cpu") or self.calls.count(1) == self.after:
                return self.layer(images.flatten(1)) * math.nan
        return self.layer(images.flatten(1))


def test_choice_keeps_the_times_before_a_step_that_is_not_finite(two_threads, monkeypatch):
    monkeypatch.setattr("gancore.training.choose.multiplies_bfloat16", lambda device: True)
    run = gan(discriminator=FailsLater(), precision="auto")
    timed = run.choice.seconds_per_step
    assert timed.keys() == {"2 threads fp32", "1 thread fp32"}
    assert run.choice.precision == "fp32"
    assert run.choice.threads == (2 if timed["2 threads fp32"] * 1.1 <= timed["1 thread fp32"] else 1)
    (warning,) = run.choice.warnings(CPU)
    assert warning.startswith("only some steps could be timed")
    assert "not finite" in warning


def test_choice_is_one_thread_where_one_time_compares_nothing(two_threads):
    run = gan(discriminator=FailsLater(after=1))
    assert run.choice.seconds_per_step.keys() == {"2 threads fp32"}
    assert run.choice.threads == 1


def test_choice_does_not_depend_on_how_the_copy_learns(two_threads):
    """With real learning rates the weights would overflow in a few steps on noise."""
    run = gan(optimizer={"discriminator": {"lr": 1e30}})
    assert run.choice.seconds_per_step.keys() == {"2 threads fp32", "1 thread fp32"}
    assert not run.choice.failed


class Counted(nn.Linear):
    """A layer that counts its copies in memory."""

    alive: ClassVar = WeakSet()
    most = 0

    def __setstate__(self, state):
        super().__setstate__(state)
        self.alive.add(self)
        Counted.most = max(Counted.most, len(self.alive))


def test_choice_makes_one_copy_for_each_precision_and_leaves_none(two_threads, monkeypatch):
    run = gan(discriminator=nn.Sequential(nn.Flatten(), Counted(16, 1)), threads=1, precision="fp32")
    monkeypatch.setattr("gancore.training.choose.multiplies_bfloat16", lambda device: True)
    auto = run.options.training.model_copy(update={"threads": "auto", "precision": "auto"})
    run.options = run.options.model_copy(update={"training": auto})
    gc.collect()
    gc.disable()
    try:
        Counted.alive.clear()
        Counted.most = 0
        assert len(choose(run).seconds_per_step) == 3
        assert Counted.most == 2
        assert not Counted.alive
    finally:
        gc.enable()


class DrawsOnTheHost(nn.Module):
    """A discriminator that draws from the generators of Python and numpy in batches of this many images."""

    def __init__(self, count):
        super().__init__()
        self.layer, self.count = nn.Linear(16, 1), count

    def forward(self, images):
        if len(images) == self.count:
            random.shuffle([1, 2, 3])
            np.random.rand(700)  # more than its state holds, so that this changes
        return self.layer(images.flatten(1))


def test_choice_leaves_the_random_numbers_of_python_and_numpy_alone(two_threads):
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    assert gan(discriminator=DrawsOnTheHost(6)).choice.seconds_per_step
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy)


def test_choice_leaves_own_optimizers_alone(two_threads):
    discriminator = TinyDiscriminator().build(Spec((1, 4, 4)))
    before = [weight.clone() for weight in discriminator.parameters()]
    run = gan(
        discriminator=discriminator,
        optimizers=lambda network: {"discriminator": optim.RMSprop(network.parameters(), lr=0.1)},
    )
    assert run.choice.seconds_per_step
    assert not run.optimizers["discriminator"].state
    assert all(map(torch.equal, before, discriminator.parameters()))


def test_choice_warns_of_more_threads_than_cores():
    cores = usable_cores()
    assert not list(Choice(cores, "fp32").warnings(CPU))
    (warning,) = Choice(cores + 1, "fp32").warnings(CPU)
    assert f"training.threads is {cores + 1}, and this process may use {cores} core" in warning


@pytest.mark.skipif(multiplies_bfloat16(CPU), reason="needs a processor without bfloat16 instructions")
def test_choice_warns_of_bf16_without_instructions():
    assert "no instructions" in next(Choice(1, "bf16").warnings(CPU))
