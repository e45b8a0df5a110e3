"""Tests that need a CUDA device: graphs, deferred finite checks, random numbers and precisions."""

import pytest
import torch

from gancore.config.optimizers import Name
from gancore.contracts import Spec
from gancore.errors import NonFiniteError
from gancore.training.cuda_graph import EXPERIMENTAL, reason_against_capture
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import RUNS, Hinge, TinyDiscriminator, TinyGenerator, assembled, dataset, trained, weights

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

BASE = {"dataset": {"name": "noise", "count": 22}, "batch_size": 4, "duration": "40 steps"}


def run(**changes):
    return assembled(BASE | changes, on="cuda")


def assert_close(actual, other):
    for name, value in actual.items():
        if not name.startswith("random"):
            torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", RUNS)
def test_cuda_graph_steps_equal_ordinary_steps(name):
    changes = RUNS[name]
    plain = run(**changes)
    gan = run(**changes | {"training": changes.get("training", {}) | {"cuda_graph": True}})
    assert not reason_against_capture(gan)
    expected, _ = trained(plain)
    assert [step.note for step in train(gan) if step.note] == [EXPERIMENTAL]
    assert_close(weights(gan), expected)


@pytest.mark.parametrize("lr", [{"from": 1e-3, "to": 1e-4}, [{"from": 0.0, "to": 1e-3, "kimg": 0.05}, {"to": 0.0}]])
@pytest.mark.parametrize("groups", [{}, {"groups": [{"prefix": "0", "lr_factor": 0.1}]}])
def test_cuda_graph_supports_a_learning_rate_schedule(lr, groups):
    schedule = {"name": "Adam", "lr": lr, **groups}
    optimizer = {"optimizer": {"generator": schedule, "discriminator": schedule}}
    expected, _ = trained(run(**optimizer))
    gan = run(**optimizer, training={"cuda_graph": True})
    assert [step.note for step in train(gan) if step.note] == [EXPERIMENTAL]
    assert_close(weights(gan), expected)


@pytest.mark.parametrize("graph", [False, True])
def test_finite_check_stays_on_the_device_until_it_is_read(graph):
    gan = run(training={"cuda_graph": graph})
    steps = train(gan)
    for _ in range(10):
        next(steps).scalars()
    with torch.no_grad():
        next(gan.discriminator.parameters()).fill_(torch.nan)
    before = weights_of(gan.generator)
    with pytest.raises(NonFiniteError, match="step 11"):
        [step.scalars() for step in steps]
    assert all(torch.equal(actual, other) for actual, other in zip(before, weights_of(gan.generator), strict=True))


def weights_of(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_resumed_run_is_close_to_the_uninterrupted_one():
    whole, _ = trained(run(duration="12 steps"))
    first = run(duration="12 steps")
    for step in train(first):
        if step.step == 5:
            break
    tensors, place = weights(first), first.state.place()
    second = run(duration="12 steps")
    second.restore(tensors, place)
    assert_close(trained(second)[0], whole)


@pytest.mark.parametrize("name", Name.__args__)
def test_optimizer_state_is_finite_and_restored_for_each_optimizer(name):
    player = {"name": name, "lr": 1e-3}
    gan = run(optimizer={"generator": player, "discriminator": player}, duration="3 steps")
    tensors, _ = trained(gan)
    assert gan.state.not_finite(gan.state.tensors()) == []
    gan.restore(gan.state.tensors(), gan.state.place())
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("tf32", 1e-2), ("bf16", 1e-1)])
def test_precision_determines_the_error_of_matrix_products(precision, bound):
    errors = []

    class ErrorMeasuring(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = TinyGenerator().build(Spec((1, 4, 4), 8))

        def forward(self, latent):
            left, right = torch.rand(2, 256, 256, device="cuda").unbind()
            exact = left.double() @ right.double()
            errors.append(float(((left @ right).double() / exact - 1).abs().max()))
            return self.network(latent)

    source = assembled(training={"precision": precision}, latent={"dim": 8}, on="cuda")
    discriminator = TinyDiscriminator().build(Spec((1, 4, 4)))
    gan = GAN(ErrorMeasuring(), discriminator, dataset(8), Hinge(), source.options, "cuda")
    errors.clear()
    next(train(gan))
    assert bound / 1e3 < max(errors) < bound
