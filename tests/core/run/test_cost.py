"""Parameters, memory and time of a run before it trains."""

import pytest
import torch
from torch import nn

from gancore import GAN, Options
from gancore.errors import ConfigError
from gancore.run.cost import Cost, Timing, cost_of, timed_steps
from gancore.training.assembly import check_room
from gancore.utils.memory import free_memory
from helpers.tiny_components import Noise, equal, weights


class Looks(nn.Module):
    """A discriminator whose forward pass needs values."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 1)

    def forward(self, images):
        logits = self.layer(images.flatten(1))
        return logits if float(logits.detach().mean()) > -1e9 else -logits


def gan_of(discriminator=None, *, batch_size=8, **options):
    generator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    discriminator = discriminator or nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(), nn.Linear(8, 1))
    options = {"duration": "20 steps", "latent": {"dim": 4}, "batch_size": batch_size, **options}
    return GAN(generator, discriminator, Noise(count=64).build(None), "bce", Options(**options), "cpu")


G, D = 4 * 8 + 8 + 8 * 16 + 16, 16 * 8 + 8 + 8 + 1


def test_cost_counts_weights_gradients_and_states_of_optimizers():
    adam = gan_of(ema={"half_life_kimg": 1.0, "more_kimg": [2.0]})
    assert cost_of(adam).parameters == {"generator": G, "discriminator": D}
    assert cost_of(adam).state_bytes == 4 * (4 * (G + D) + 2 * G)
    sgd = {"name": "SGD", "lr": 0.1}
    plain = gan_of(optimizer={"generator": sgd, "discriminator": {**sgd, "momentum": 0.9}})
    assert cost_of(plain).state_bytes == 4 * (2 * G + 3 * D)


def test_cost_counts_activations_of_a_batch_and_leaves_networks_as_they_are():
    small, large = gan_of(batch_size=8), gan_of(batch_size=32)
    before = weights(small)
    # Kept: the input of each layer, and of each activation that is not the input of the next layer.
    assert 0 < cost_of(small).activation_bytes < 8 * 4 * 200
    assert cost_of(large).activation_bytes == 4 * cost_of(small).activation_bytes
    assert (
        cost_of(gan_of(batch_size=32, training={"accumulate": 4})).activation_bytes == cost_of(small).activation_bytes
    )
    assert equal(before, weights(small))


def test_cost_is_known_without_activations_for_networks_that_need_values():
    cost = cost_of(gan_of(Looks()))
    assert cost.activation_bytes is None
    assert cost.bytes == cost.state_bytes > 0


def test_weights_and_average_are_in_memory_before_the_first_step():
    gan = gan_of(ema={"half_life_kimg": 1.0})
    cost = cost_of(gan)
    there = [parameter for module in (gan.generator, gan.discriminator, gan.ema) for parameter in module.parameters()]
    assert cost.present_bytes == sum(weight.nbytes for weight in there)
    assert not list(cost.warnings(cost.bytes - cost.present_bytes))
    assert list(cost.warnings(cost.bytes - cost.present_bytes - 1))


@pytest.mark.parametrize(
    ("cost", "free", "words"),
    [
        (Cost({"generator": 10, "discriminator": 10}, 400, 100, 80), 10_000, []),
        (Cost({"generator": 10, "discriminator": 10}, 400, 100, 80), None, []),
        (Cost({"generator": 90_000_000, "discriminator": 10_000_001}, 400, 100, 80), None, ["100 M parameters"]),
        (Cost({"generator": 10, "discriminator": 10}, 400, 9_000, 80), 5_000, ["9.32 kB more", "5 kB are free"]),
    ],
)
def test_cost_warns_of_large_networks_and_of_too_little_memory(cost, free, words):
    warnings = list(cost.warnings(free))
    assert len(warnings) == bool(words)
    assert all(word in warnings[0] for word in words)


def test_free_memory_is_less_than_that_of_the_machine():
    free, with_swap = (free_memory(torch.device("cpu"), swap=swap) for swap in (False, True))
    others = 2**30  # what other processes may take between the two readings
    assert 0 < free <= with_swap + others < 2**50


def test_networks_whose_copies_do_not_fit_are_refused():
    networks = {"generator": nn.Linear(1000, 1000, bias=False), "discriminator": nn.Linear(10, 10, bias=False)}
    check_room(networks, 2 * 4 * 1_000_100)
    check_room(networks, None)
    with pytest.raises(ConfigError, match=r"generator 1 M and discriminator 100 parameters take at least 8 MB more"):
        check_room(networks, 2 * 4 * 1_000_100 - 1)


def test_timed_steps_takes_a_few_steps():
    gan = gan_of()
    step, seconds = timed_steps(gan)
    assert step.step == 1
    assert 1 < gan.progress.step < 20
    assert seconds > 0
    assert timed_steps(gan_of(duration="1 steps"))[1] > 0


def test_timing_extrapolates_to_1000_images_and_to_the_whole_run():
    timing = Timing.of_steps(0.5, 20, 3.0)
    assert (timing.seconds_per_kimg, timing.seconds) == (25.0, 75.0)
    assert str(timing) == "time: 0.5 s per step, 25 s per kimg; the whole run about 1:15 at this speed"
    assert Timing.of_steps(0.5, 20, None).seconds is None
