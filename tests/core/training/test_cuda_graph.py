"""CUDA graphs of steps, on the CPU: a fake recorder records work without effect, and runs it again in a replay."""

from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import islice

import pytest
import torch

from gancore.errors import blame
from gancore.training.cuda_graph import CapturedStep, _make_capturable, reason_against_capture
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.step import StepResult, step
from helpers.tiny_components import RUNS, assembled, equal, trained, weights

SCORES = [field.name for field in fields(StepResult) if field.name != "penalties"]


class FakeRecorder:
    """Behaves like CUDA: recording changes no state, and replays write into the tensors of the recorded outcome."""

    def __init__(self, gan):
        self.gan, self.recorded, self.on_stream = gan, 0, False

    @contextmanager
    def stream(self):
        self.on_stream = True
        yield
        self.on_stream = False

    def record(self, work):
        assert self.on_stream
        self.recorded += 1
        before = {name: value.clone() for name, value in self.gan.state.tensors().items()}
        noise, random_state = self.gan.state.noise.get_state(), torch.get_rng_state()
        outcome = work()
        with torch.no_grad():
            for name, value in self.gan.state.tensors().items():
                if not name.startswith(("random", "penalty")):
                    value.copy_(before[name])
        self.gan.state.noise.set_state(noise)
        torch.set_rng_state(random_state)

        recorded_progress = replace(self.gan.progress)

        def replay():
            current, self.gan.progress = self.gan.progress, recorded_progress  # a graph keeps recorded host values
            result = work()
            for name in SCORES:
                getattr(outcome, name).copy_(getattr(result, name))
            for label, penalty in result.penalties.items():
                outcome.penalties[label].copy_(penalty)
            self.gan.progress = current

        return replay, outcome


def run_by_graphs(gan, recorder, before_step=lambda gan: None):
    """Train through `CapturedStep`, and return the result of each step, and the notes."""
    captured = CapturedStep(gan, step, recorder)
    batches = gan.feed.batches(0)
    outcomes, notes = [], []
    while gan.done() < 1:
        before_step(gan)
        with gan.state.randomness.lent(), torch.enable_grad():
            gan.apply_schedules()
            taken = list(islice(batches, gan.options.training.discriminator_steps))
            outcomes.append(captured(gan, taken))
        gan.progress.step += 1
        gan.progress.images_seen += sum(batch.total for batch in taken)
        notes += [captured.warning] if captured.warning else []
    return outcomes, notes


def run(**changes):
    base = {"dataset": {"name": "noise", "count": 22}, "batch_size": 4, "duration": "40 steps"}
    return assembled(base | changes)


@pytest.mark.parametrize("name", RUNS)
def test_cuda_graph_steps_equal_ordinary_steps(name):
    plain, gan = run(**RUNS[name]), run(**RUNS[name])
    _, steps = trained(plain)
    recorder = FakeRecorder(gan)
    outcomes, notes = run_by_graphs(gan, recorder)
    assert equal(weights(gan), weights(plain))
    for outcome, record in zip(outcomes, steps, strict=True):
        assert all(torch.equal(getattr(outcome, name), getattr(record, name)) for name in SCORES)
    assert recorder.recorded >= 1
    assert not notes


def test_cuda_graph_is_recorded_for_each_recurring_set_of_host_values():
    gan = run(regularizers={"r1": {"interval": 2}}, dataset={"name": "noise", "count": 20})
    recorder = FakeRecorder(gan)
    run_by_graphs(gan, recorder)
    assert recorder.recorded == 2


def test_cuda_graph_is_not_recorded_when_host_values_change_in_every_step():
    schedule = {"name": "Adam", "lr": {"from": 1e-3, "to": 1e-4}}
    gan = run(optimizer={"generator": schedule, "discriminator": schedule})
    recorder = FakeRecorder(gan)
    run_by_graphs(gan, recorder)
    assert recorder.recorded == 0


def test_cuda_graph_is_not_recorded_when_only_a_group_changes_in_every_step():
    groups = [{"prefix": "0.weight", "lr": {"from": 1e-3, "to": 1e-4}}]
    gan = run(optimizer={"generator": {"groups": groups}})
    recorder = FakeRecorder(gan)
    run_by_graphs(gan, recorder)
    assert recorder.recorded == 0


def test_cuda_graphs_are_at_most_sixteen():
    def set_host_value(gan):  # a set of host values for each of 20 steps, 5 times
        gan.optimizers["generator"].param_groups[0]["eps"] = 1e-8 * (1 + gan.progress.step % 20)

    changes = {"dataset": {"name": "noise", "count": 20}, "duration": "100 steps"}
    plain, gan = run(**changes), run(**changes)
    set_host_value(plain)
    for _ in train(plain):
        set_host_value(plain)
    recorder = FakeRecorder(gan)
    _, notes = run_by_graphs(gan, recorder, set_host_value)
    assert recorder.recorded == 16
    assert not notes
    assert equal(weights(gan), weights(plain))


class HiddenState(torch.nn.Module):
    """A network with state that neither graphs nor checkpoints contain."""

    def __init__(self, network):
        super().__init__()
        self.network, self.sign = network, 1.0

    def forward(self, images):
        self.sign = -self.sign
        return self.network(images) * self.sign


def test_cuda_graph_is_given_up_when_a_component_has_hidden_state():
    source = run()
    gan = GAN(
        source.generator,
        HiddenState(source.discriminator),
        source.feed,
        source.loss.objective,
        source.options,
        source.device,
    )
    recorder = FakeRecorder(gan)
    _, notes = run_by_graphs(gan, recorder)
    assert recorder.recorded == 1
    assert len(notes) == 1
    assert notes[0].startswith("training.cuda_graph (experimental) has no effect, steps run kernel by kernel: ")
    assert notes[0].endswith(": generator differs between a step as a graph and the same step kernel by kernel")


class AlteringRecorder(FakeRecorder):
    """A recorder whose replays also apply `alter` to the GAN."""

    def __init__(self, gan, alter):
        super().__init__(gan)
        self.alter = torch.no_grad()(alter)

    def record(self, work):
        replay, outcome = super().record(work)

        def altered():
            replay()
            self.alter(self.gan)

        return altered, outcome


def test_cuda_graph_is_given_up_when_a_replay_gives_nan():
    def set_nan(gan):
        next(gan.generator.parameters()).fill_(torch.nan)
        gan.finite_check.found.fill_(1.0)

    plain, gan = run(), run()
    trained(plain)
    _, notes = run_by_graphs(gan, AlteringRecorder(gan, set_nan))
    assert equal(weights(gan), weights(plain))
    assert notes[0].endswith(": generator differs between a step as a graph and the same step kernel by kernel")
    assert not gan.finite_check.found


class NormalizedAfterBias(torch.nn.Module):
    """A generator whose first bias has a gradient of rounding errors only, which Adam turns into full steps."""

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


def test_cuda_graph_tolerates_differences_of_rounding():
    def move_by_rounding(gan):
        gan.generator.layers[0].bias.add_(2e-4 * torch.randn(64).sign())  # as large as one step

    source = run(latent={"dim": 5})
    gan = GAN(
        NormalizedAfterBias(), source.discriminator, source.feed, source.loss.objective, source.options, source.device
    )
    recorder = AlteringRecorder(gan, move_by_rounding)
    _, notes = run_by_graphs(gan, recorder)
    assert recorder.recorded >= 1
    assert not notes


def test_cuda_graph_failure_is_a_note_of_one_line_and_changes_nothing():
    class FailingRecorder(FakeRecorder):
        def record(self, work):
            work()  # partly, as in a recording that fails
            try:
                with blame("loss", "in generator()"):
                    raise RuntimeError("operation not permitted when stream is capturing\nSearch for it in https://x")
            finally:
                raise RuntimeError("operation failed due to a previous error during capture\nCompile with it")

    plain, gan = run(), run()
    trained(plain)
    _, notes = run_by_graphs(gan, FailingRecorder(gan))
    assert equal(weights(gan), weights(plain))
    prefix = "training.cuda_graph (experimental) has no effect, steps run kernel by kernel: "
    assert notes == [f"{prefix}operation not permitted when stream is capturing, in the loss"]


def test_cuda_graph_forgets_host_values_that_do_not_recur():
    gan = run(ema={"half_life_kimg": 100.0, "ramp_up": 0.5}, duration="100 steps")
    captured = CapturedStep(gan, step, FakeRecorder(gan))
    for number in range(1000):
        assert captured._count(("changes", number)) == 1
        assert captured._count("recurs") == number + 1
    assert len(captured._counts) <= 64


def test_cuda_graph_is_refused_for_an_optimizer_without_found_inf(monkeypatch):
    adam, rmsprop = run(), run(optimizer={"generator": {"name": "RMSprop"}})
    for gan in (adam, rmsprop):
        monkeypatch.setattr(gan, "device", torch.device("cuda"))
    assert reason_against_capture(adam) == ""
    assert "RMSprop" in reason_against_capture(rmsprop)


@pytest.mark.parametrize("groups", [None, [{"prefix": "0", "lr_factor": 0.5}]])
def test_cuda_graph_is_recorded_once_for_a_learning_rate_on_the_device(groups):
    class RatesOnDevice(FakeRecorder):
        def __init__(self, gan):
            super().__init__(gan)
            for optimizer in gan.optimizers.values():
                _make_capturable(optimizer, gan.device)

    schedule = {"lr": {"from": 1e-3, "to": 1e-4}} | ({"groups": groups} if groups else {})
    plain, gan = (run(optimizer={"generator": schedule, "discriminator": schedule}) for _ in range(2))
    trained(plain)
    recorder = RatesOnDevice(gan)
    _, notes = run_by_graphs(gan, recorder)
    assert recorder.recorded == 2, "one for full batches, one for the last batch of an epoch"
    assert not notes
    one, other = weights(gan), weights(plain)
    for name, value in one.items():
        if not name.startswith("random"):
            torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6)


def test_cuda_graph_option_without_cuda_is_one_note():
    plain, gan = run(), run(training={"cuda_graph": True})
    trained(plain)
    notes = [step.note for step in train(gan)]
    prefix = "training.cuda_graph (experimental) has no effect, steps run kernel by kernel: "
    assert notes == [f"{prefix}the run is on cpu, and graphs need CUDA"] + [""] * 39
    assert equal(weights(gan), weights(plain))
