"""Several updates of G per step: their number, noise, intervals of regularizers, and the state after a skipped step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.contracts import Regularizer
from gancore.training.loop import train
from helpers.contract_parts import small_gan
from helpers.tiny_components import Hinge, equal, trained, weights


class Recorder(Hinge):
    """A hinge loss that keeps the latents of all fakes, by player."""

    name = "recorder"


def recorded(**training):
    """Return a run, and the latents of its updates by player, in order."""
    seen = {"discriminator": [], "generator": []}

    class Recording(Recorder):
        name = "recording"

        def discriminator(self, real, fake):
            seen["discriminator"].append(fake.latent)
            return super().discriminator(real, fake)

        def generator(self, fake, real):
            seen["generator"].append(fake.latent)
            return super().generator(fake, real)

    run = small_gan(Recorder(), training=training)
    run.loss.objective = Recording()
    list(train(run))
    return run, seen


@given(updates=st.integers(1, 3), generator_steps=st.integers(1, 4), fakes=st.sampled_from(["shared", "fresh"]))
@settings(max_examples=12, deadline=None)
def test_step_updates_each_player_as_often_as_set(updates, generator_steps, fakes):
    run, seen = recorded(discriminator_steps=updates, generator_steps=generator_steps, fakes=fakes)
    assert len(seen["discriminator"]) == 4 * updates
    assert len(seen["generator"]) == 4 * generator_steps
    assert run.progress.step == 4
    latents = [tuple(latent.flatten().tolist()) for latent in (*seen["discriminator"], *seen["generator"])]
    shared = 4 if fakes == "shared" else 0
    assert len(set(latents)) == len(latents) - shared, "new noise in each update, except where fakes are shared"
    if shared:
        assert torch.equal(seen["discriminator"][updates - 1], seen["generator"][0])


def test_noise_of_all_updates_is_one_stream():
    run, seen = recorded(generator_steps=3, fakes="fresh")
    again = small_gan(Recorder(), training={"generator_steps": 3, "fakes": "fresh"})
    sizes = [len(latent) for latent in seen["discriminator"]]
    for step, count in enumerate(sizes):
        drawn = [again.latent(count) for _ in range(4)]
        used = [seen["discriminator"][step], *seen["generator"][3 * step : 3 * step + 3]]
        assert all(map(torch.equal, drawn, used))
    assert torch.equal(again.state.noise.get_state(), run.state.noise.get_state())


@pytest.mark.parametrize("generator_steps", [1, 2, 3])
@pytest.mark.parametrize("interval", [1, 2, 4])
def test_interval_of_a_generator_regularizer_counts_the_generators_updates(generator_steps, interval):
    class Counting(Regularizer):
        name = "counting"
        player = "generator"

        def build(self, spec):
            return Calls()

    run = small_gan(
        parts={"regularizers": {"counting": Counting(interval=interval)}},
        duration="6 steps",
        training={"generator_steps": generator_steps},
    )
    list(train(run))
    expected = len([number for number in range(6 * generator_steps) if number % interval == 0])
    assert run.state.tensors()["regularizer.counting.calls"] == expected


class Calls(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def penalty(self, real, fake):
        self.calls += 1
        return fake.images.square().mean()


def test_run_with_several_generator_updates_resumes_bit_for_bit():
    options = {"training": {"generator_steps": 2, "discriminator_steps": 2}, "ema": {}}
    expected, _ = trained(small_gan(**options))
    first, second = small_gan(**options), small_gan(**options)
    next(train(first))
    second.restore(weights(first), first.state.place())
    assert equal(trained(second)[0], expected)


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_step_that_is_skipped_in_a_late_update_changes_neither_player(failing, optimizer):
    """The NaN comes in one of three updates of G, after the earlier ones have changed it."""

    calls = []

    class Failing(Hinge):
        name = "failing"

        def generator(self, fake, real):
            calls.append(len(calls))
            loss = super().generator(fake, real)
            return loss * torch.nan if calls[-1] == 3 + failing else loss

    run = small_gan(
        training={"generator_steps": 3, "on_nonfinite": "skip"},
        ema={},
        optimizer={"generator": {"name": optimizer}, "discriminator": {"name": optimizer}},
    )
    run.loss.objective = Failing()
    steps = train(run)
    next(steps)
    before = {name: value for name, value in weights(run).items() if not name.startswith("random.")}
    skipped = next(steps)
    assert "not finite" in skipped.skipped
    after = {name: value for name, value in weights(run).items() if not name.startswith("random.")}
    assert equal(before, after)
    assert not next(steps).skipped
