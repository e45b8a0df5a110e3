"""What only a CUDA device can show: graphs, verdicts that stay there, its own randomness and precisions."""

import pytest
import torch

from gancore.config.optimizers import Name
from gancore.errors import NonFiniteError
from gancore.training.cuda_graph import unfit
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import RUNS, Hinge, TinyDiscriminator, TinyGenerator, assembled, dataset, trained, weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a CUDA device")

BASE = {"dataset": {"name": "noise", "count": 22}, "batch_size": 4, "duration": "40 steps"}


def run(**changes):
    return assembled(BASE | changes, on="cuda")


def close(one, other):
    for name, value in one.items():
        if not name.startswith("random"):
            torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", RUNS)
def test_steps_as_graphs_are_those_made_kernel_by_kernel(name):
    changes = RUNS[name]
    plain = run(**changes)
    gan = run(**changes | {"training": changes.get("training", {}) | {"cuda_graph": True}})
    assert not unfit(gan)
    expected, _ = trained(plain)
    notes = [step.note for step in train(gan) if step.note]
    assert not notes
    close(weights(gan), expected)


def test_a_falling_rate_is_recorded_once():
    falling = {"name": "Adam", "lr": {"from": 1e-3, "to": 1e-4}}
    optimizer = {"optimizer": {"generator": falling, "discriminator": falling}}
    expected, _ = trained(run(**optimizer))
    gan = run(**optimizer, training={"cuda_graph": True})
    assert not [step.note for step in train(gan) if step.note]
    close(weights(gan), expected)


@pytest.mark.parametrize("graph", [False, True])
def test_what_is_not_finite_is_found_where_it_is_and_told_when_it_is_read(graph):
    gan = run(training={"cuda_graph": graph})
    steps = train(gan)
    for _ in range(10):
        next(steps).scalars()
    with torch.no_grad():
        next(gan.discriminator.parameters()).fill_(torch.nan)
    kept = weights_of(gan.generator)
    with pytest.raises(NonFiniteError, match="step 11"):
        [step.scalars() for step in steps]
    assert all(torch.equal(one, other) for one, other in zip(kept, weights_of(gan.generator), strict=True))


def weights_of(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_a_run_goes_on_from_where_it_was():
    whole, _ = trained(run(duration="12 steps"))
    first = run(duration="12 steps")
    for step in train(first):
        if step.step == 5:
            break
    tensors, place = weights(first), first.place()
    second = run(duration="12 steps")
    second.restore(tensors, place)
    close(trained(second)[0], whole)


@pytest.mark.parametrize("name", Name.__args__)
def test_a_run_is_sound_and_saved_with_any_optimizer(name):
    player = {"name": name, "lr": 1e-3}
    gan = run(optimizer={"generator": player, "discriminator": player}, duration="3 steps")
    tensors, _ = trained(gan)
    assert gan.unfit(gan.tensors()) == []
    gan.restore(gan.tensors(), gan.place())
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize(("precision", "worst"), [("fp32", 1e-5), ("tf32", 1e-2), ("bf16", 1e-1)])
def test_products_are_as_exact_as_the_precision_says(precision, worst):
    errors = []

    class Telling(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = TinyGenerator().build((1, 4, 4), 8, None)

        def forward(self, latent):
            left, right = torch.rand(2, 256, 256, device="cuda").unbind()
            exact = left.double() @ right.double()
            errors.append(float(((left @ right).double() / exact - 1).abs().max()))
            return self.network(latent)

    source = assembled(training={"precision": precision}, latent={"dim": 8}, on="cuda")
    discriminator = TinyDiscriminator().build((1, 4, 4), None)
    gan = GAN(Telling(), discriminator, dataset(8), Hinge(), source.options, "cuda")
    errors.clear()
    next(train(gan))
    assert worst / 1e3 < max(errors) < worst
