"""Steps as graphs. What CUDA does is done here by hand: work is recorded without effect, and then done again."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch

from gancore.capture import Captured
from gancore.gan import GAN
from gancore.training import _Counted, _keep_to_schedule, _step, train
from worlds import assembled, equal, trained, weights


class ByHand:
    """Records as CUDA does: afterwards all is as it was, and replays write into the same tensors."""

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


RUNS = {
    "plain": {},
    "fresh fakes, two updates of d": {"training": {"fakes": "fresh", "discriminator_steps": 2}},
    "lazy r1": {"regularizers": {"r1": {"interval": 3}}},
    "average that ramps up": {"ema": {"half_life_kimg": 0.05, "ramp_up": 0.5}},
    "labels": {"dataset": {"name": "noise", "count": 22, "labelled": True}, "training": {"conditional": True}},
    "dropout": {"discriminator": {"name": "tiny", "dropout": 0.5}},
    "statistics": {"discriminator": {"name": "tiny", "batch_norm": True}, "training": {"clip_norm": 0.5}},
}


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
    assert notes[0].endswith(" is another after a step as a graph than after one kernel by kernel")


def test_what_cannot_be_recorded_is_told_in_one_line_and_changes_nothing():
    class Refusing(ByHand):
        def record(self, work):
            work()  # in part, as it may be
            raise RuntimeError("operation not permitted when stream is capturing.\nCompile with TORCH_USE_CUDA_DSA")

    plain, gan = run(), run()
    trained(plain)
    _, notes = by_graphs(gan, Refusing(gan))
    assert equal(weights(gan), weights(plain))
    assert notes == [
        "steps are made kernel by kernel, for they cannot be captured: operation not permitted when stream is capturing"
    ]


def test_without_cuda_a_run_that_asks_for_graphs_says_so_once():
    plain, gan = run(), run(training={"cuda_graph": True})
    trained(plain)
    notes = [step.note for step in train(gan)]
    told = "steps are made kernel by kernel, for they cannot be captured: the run is on cpu, and graphs are of CUDA"
    assert notes == [told] + [""] * 39
    assert equal(weights(gan), weights(plain))
