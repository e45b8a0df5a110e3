"""Steps as graphs. What CUDA does is done here by hand: work is recorded without effect, and then done again."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch

from gancore.errors import blame
from gancore.training.cuda_graph import Captured, _make_capturable, unfit
from gancore.training.gan import GAN
from gancore.training.loop import _Counted, _keep_to_schedule, _step, train
from helpers.tiny_components import RUNS, assembled, equal, trained, weights


class ByHand:
    """Records as CUDA does: afterward all is as it was, and replays write into the same tensors."""

    def __init__(self, gan):
        self.gan, self.recorded, self.aside_now = gan, 0, False

    @contextmanager
    def aside(self):
        self.aside_now = True
        yield
        self.aside_now = False

    def record(self, work):
        assert self.aside_now
        self.recorded += 1
        before = {name: each.clone() for name, each in self.gan.tensors().items()}
        noise, drawn = self.gan.noise.get_state(), torch.get_rng_state()
        outcome = work()
        with torch.no_grad():
            for name, each in self.gan.tensors().items():
                if not name.startswith(("random", "penalty")):
                    each.copy_(before[name])
        self.gan.noise.set_state(noise)
        torch.set_rng_state(drawn)

        then = replace(self.gan.progress)

        def replay():
            now, self.gan.progress = self.gan.progress, then  # what the host knew is burnt in
            for kept, made in zip(outcome, work(), strict=True):
                for name, each in made.items():
                    kept[name].copy_(each)
            self.gan.progress = now

        return replay, outcome


def by_graphs(gan, recorder):
    """The run, its steps made through `Captured`; the outcomes as numbers, and the notes."""
    captured = Captured(gan, partial(_step, gan, gan.joined), recorder)
    batches = _Counted(gan.feed, 0)
    outcomes, notes = [], []
    while gan.done() < 1:
        with gan.randomness.lent(), torch.enable_grad():
            for player in ("generator", "discriminator"):
                _keep_to_schedule(gan, player, getattr(gan.options.optimizer, player))
            scores, penalties = captured(batches)
        gan.added |= penalties
        gan.progress.step += 1
        gan.progress.images_seen = batches.images_seen
        outcomes.append(scores)
        notes += [captured.note] if captured.note else []
    return outcomes, notes


def run(**changes):
    base = {"dataset": {"name": "noise", "count": 22}, "batch_size": 4, "duration": "40 steps"}
    return assembled(base | changes)


@pytest.mark.parametrize("name", RUNS)
def test_steps_as_graphs_are_those_made_kernel_by_kernel(name):
    plain, gan = run(**RUNS[name]), run(**RUNS[name])
    _, steps = trained(plain)
    recorder = ByHand(gan)
    outcomes, notes = by_graphs(gan, recorder)
    assert equal(weights(gan), weights(plain))
    for scores, step in zip(outcomes, steps, strict=True):
        assert all(torch.equal(each, getattr(step, key)) for key, each in scores.items())
    assert recorder.recorded >= 1
    assert not notes


def test_there_is_a_graph_for_each_set_of_decisions_that_comes_back():
    gan = run(regularizers={"r1": {"interval": 2}}, dataset={"name": "noise", "count": 20})
    recorder = ByHand(gan)
    by_graphs(gan, recorder)
    assert recorder.recorded == 2


def test_what_changes_with_every_step_is_not_recorded():
    falling = {"name": "Adam", "lr": {"from": 1e-3, "to": 1e-4}}
    gan = run(optimizer={"generator": falling, "discriminator": falling})
    recorder = ByHand(gan)
    by_graphs(gan, recorder)
    assert recorder.recorded == 0


class Forgetful(torch.nn.Module):
    """A network that keeps something where no graph and no checkpoint finds it."""

    def __init__(self, network):
        super().__init__()
        self.network, self.sign = network, 1.0

    def forward(self, images):
        self.sign = -self.sign
        return self.network(images) * self.sign


def test_a_part_that_keeps_something_elsewhere_is_found_out_and_the_run_goes_on_without_graphs():
    source = run()
    gan = GAN(
        source.generator, Forgetful(source.discriminator), source.feed, source.objective, source.options, source.device
    )
    recorder = ByHand(gan)
    _, notes = by_graphs(gan, recorder)
    assert recorder.recorded == 1
    assert len(notes) == 1
    assert notes[0].startswith("steps are made kernel by kernel, for they cannot be captured: ")
    assert notes[0].endswith(": generator is another after a step as a graph than after one kernel by kernel")


class Altering(ByHand):
    """Its replays change something more of the run."""

    def __init__(self, gan, alter):
        super().__init__(gan)
        self.alter = torch.no_grad()(alter)

    def record(self, work):
        replay, outcome = super().record(work)

        def altered():
            replay()
            self.alter(self.gan)

        return altered, outcome


def test_a_replay_that_gives_what_is_no_number_is_found_out_and_forgotten():
    def spoil(gan):
        next(gan.generator.parameters()).fill_(torch.nan)
        gan.watch.held.fill_(1.0)

    plain, gan = run(), run()
    trained(plain)
    _, notes = by_graphs(gan, Altering(gan, spoil))
    assert equal(weights(gan), weights(plain))
    assert notes[0].endswith(": generator is another after a step as a graph than after one kernel by kernel")
    assert not gan.watch.held


class NormalizedAfterBias(torch.nn.Module):
    """Its first bias has a gradient of rounding alone, of which Adam makes full steps."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(5, 64),
            torch.nn.BatchNorm1d(64),
            torch.nn.Tanh(),
            torch.nn.Linear(64, 2048),
            torch.nn.Tanh(),
        )
        self.end = torch.nn.Sequential(torch.nn.Linear(2048, 16), torch.nn.Tanh())

    def forward(self, latent):
        return self.end(self.layers(latent)).unflatten(1, (1, 4, 4))


def test_what_is_but_rounding_is_not_told_as_another():
    def move(gan):
        gan.generator.layers[0].bias.add_(2e-4 * torch.randn(64).sign())  # as far as a step goes

    source = run(latent={"dim": 5})
    gan = GAN(NormalizedAfterBias(), source.discriminator, source.feed, source.objective, source.options, source.device)
    recorder = Altering(gan, move)
    _, notes = by_graphs(gan, recorder)
    assert recorder.recorded >= 1
    assert not notes


def test_what_cannot_be_recorded_is_told_in_one_line_and_changes_nothing():
    class Refusing(ByHand):
        def record(self, work):
            work()  # in part, as it may be
            try:
                with blame("loss", "in generator()"):
                    raise RuntimeError("operation not permitted when stream is capturing\nSearch for it in https://x")
            finally:
                raise RuntimeError("operation failed due to a previous error during capture\nCompile with it")

    plain, gan = run(), run()
    trained(plain)
    _, notes = by_graphs(gan, Refusing(gan))
    assert equal(weights(gan), weights(plain))
    told = "steps are made kernel by kernel, for they cannot be captured: "
    assert notes == [f"{told}operation not permitted when stream is capturing, in the loss"]


def test_decisions_that_do_not_come_back_are_forgotten():
    gan = run(ema={"half_life_kimg": 100.0, "ramp_up": 0.5}, duration="100 steps")
    captured = Captured(gan, partial(_step, gan, gan.joined), ByHand(gan))
    for number in range(1000):
        assert captured._often(("falling", number)) == 1
        assert captured._often("coming back") == number + 1
    assert len(captured._seen) <= 64


def test_an_optimizer_whose_numbers_are_looked_at_on_the_host_is_refused(monkeypatch):
    adam, rmsprop = run(), run(optimizer={"generator": {"name": "RMSprop"}})
    for gan in (adam, rmsprop):
        monkeypatch.setattr(gan, "device", torch.device("cuda"))
    assert unfit(adam) == ""
    assert "RMSprop" in unfit(rmsprop)


def test_a_rate_that_lies_on_the_device_is_recorded_once():
    class OnDevice(ByHand):
        def __init__(self, gan):
            super().__init__(gan)
            for optimizer in gan.optimizers.values():
                _make_capturable(optimizer, gan.device)

    falling = {"name": "Adam", "lr": {"from": 1e-3, "to": 1e-4}}
    plain, gan = (run(optimizer={"generator": falling, "discriminator": falling}) for _ in range(2))
    trained(plain)
    recorder = OnDevice(gan)
    _, notes = by_graphs(gan, recorder)
    assert recorder.recorded == 2, "a whole batch, and the last of an epoch"
    assert not notes
    one, other = weights(gan), weights(plain)
    for name, value in one.items():
        if not name.startswith("random"):
            torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6)


def test_without_cuda_a_run_that_asks_for_graphs_says_so_once():
    plain, gan = run(), run(training={"cuda_graph": True})
    trained(plain)
    notes = [step.note for step in train(gan)]
    told = "steps are made kernel by kernel, for they cannot be captured: the run is on cpu, and graphs are of CUDA"
    assert notes == [told] + [""] * 39
    assert equal(weights(gan), weights(plain))
