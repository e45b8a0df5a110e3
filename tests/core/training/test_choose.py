"""The choice of threads and precision by timing a few steps: what it takes into account, and what it leaves alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from gancore.config.run import Options
from gancore.contracts import Spec
from gancore.errors import PluginError
from gancore.training.choose import Choice, thread_numbers
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


def gan(discriminator=None, optimizers=None, **training):
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
            optimizer={"generator": {"lr": {"from": 1e-3, "to": 0.0}}},
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


def test_choice_says_why_no_step_could_be_timed(two_threads):
    run = gan(discriminator=Failing(6), precision="auto")
    assert (run.choice.threads, run.choice.precision, run.choice.seconds_per_step) == (2, "fp32", {})
    (warning,) = run.choice.warnings(CPU)
    assert warning.startswith("no steps could be timed")
    assert "too many" in warning


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
