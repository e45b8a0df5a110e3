"""The precision of a run: which products are rounded, what stays in float32, and that other code is not affected."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Output, Spec
from gancore.errors import ConfigError
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.precision import Precision
from gancore_plugins.regularizers.gradients import R1
from gancore_plugins.regularizers.lipschitz import GradientPenalty
from helpers.tiny_components import Hinge, TinyDiscriminator, TinyGenerator, dataset, equal, trained, weights

CPU = torch.device("cpu")


class DtypeRecorder(nn.Module):
    """Wraps a network, and records the dtypes of its inputs and of the outputs of its linear layers."""

    def __init__(self, network):
        super().__init__()
        self.network, self.input_dtypes, self.output_dtypes = network, set(), set()
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.register_forward_hook(lambda module, inputs, output: self.output_dtypes.add(output.dtype))

    def forward(self, batch):
        self.input_dtypes.add(batch.dtype)
        return self.network(batch)


def gan(precision, seed=0, regularizers=None, **training):
    torch.manual_seed(seed)
    return GAN(
        DtypeRecorder(TinyGenerator().build(Spec((1, 4, 4), 5))),
        DtypeRecorder(TinyDiscriminator().build(Spec((1, 4, 4)))),
        dataset(12),
        Hinge(),
        Options(duration="6 steps", batch_size=4, latent={"dim": 5}, training={"precision": precision, **training}),
        "cpu",
        regularizers=regularizers,
    )


def regularized(kind):
    return {"none": {}, "r1": {"r1": R1(gamma=1.0, interval=2)}, "wgan-gp": {"wgan-gp": GradientPenalty()}}[kind]


@settings(max_examples=8)
@given(st.integers(0, 1000), st.sampled_from(["none", "r1", "wgan-gp"]), st.sampled_from(["shared", "fresh"]))
def test_bf16_changes_a_run_only_by_rounding(seed, kind, fakes):
    runs = [gan(precision, seed, regularized(kind), fakes=fakes) for precision in ("fp32", "bf16")]
    exact, rounded = ([step.scalars() for step in train(run)] for run in runs)
    for exact_step, rounded_step in zip(exact, rounded, strict=True):
        for key in exact_step.keys() - {"seconds"}:
            assert rounded_step[key] == pytest.approx(exact_step[key], rel=0.05, abs=0.02)
    assert not equal(weights(runs[0]), weights(runs[1]))


@pytest.mark.parametrize("kind", ["none", "r1", "wgan-gp"])
def test_bf16_applies_to_products_and_everything_else_is_float32(kind):
    run = gan("bf16", regularizers=regularized(kind))
    for network in (run.generator, run.discriminator):
        network.output_dtypes.clear()  # the preflight compares in float32
    for step in train(run):
        logits = step.real_logits.dtype, step.fake_logits.dtype
    assert run.generator.output_dtypes == run.discriminator.output_dtypes == {torch.bfloat16}
    assert run.generator.input_dtypes == run.discriminator.input_dtypes == {torch.float32}
    assert set(logits) == {torch.float32}
    tensors = run.state.tensors().items()
    assert {tensor.dtype for name, tensor in tensors if not name.startswith("random")} == {torch.float32}


class FullOutput(nn.Module):
    """A discriminator with logits, features and heads."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 1)

    def forward(self, images):
        logits = self.layer(images.flatten(1))
        return Output(logits, features=(2 * logits,), heads={"tripled": 3 * logits, "positive": logits.flatten() > 0})


class DtypeRecordingLoss:
    """A loss that records the dtypes of its inputs."""

    needs_real = False

    def __init__(self):
        self.input_dtypes = set()

    def discriminator(self, real, fake):
        for scores in (real, fake):
            self.input_dtypes.add(
                (scores.logits.dtype, scores.features[0].dtype, *(head.dtype for head in scores.heads.values()))
            )
        return Hinge().discriminator(real, fake)

    def generator(self, fake, real):
        return Hinge().generator(fake, real)


@pytest.mark.parametrize("joined", [True, False])
def test_bf16_outputs_of_d_reach_the_loss_in_float32(joined):
    options = Options(duration="1 steps", batch_size=4, latent={"dim": 5}, training={"precision": "bf16"})
    loss = DtypeRecordingLoss()
    run = GAN(TinyGenerator().build(Spec((1, 4, 4), 5)), FullOutput(), dataset(12), loss, options, "cpu")
    loss.input_dtypes.clear()
    run.critic.one_pass = joined
    assert len(list(train(run))) == 1
    assert loss.input_dtypes == {(torch.float32, torch.float32, torch.float32, torch.bool)}


def test_precision_default_is_float32():
    run = gan("fp32")
    assert Options().training.precision == "fp32"
    trained(run)
    assert run.generator.output_dtypes == run.discriminator.output_dtypes == {torch.float32}


def test_bf16_applies_neither_to_samples_nor_between_steps():
    run = gan("bf16")
    for _ in train(run):
        assert not torch.is_autocast_enabled("cpu")
        assert run.sampler()(run.latent(2)).dtype == torch.float32


def test_bf16_run_is_resumed_bit_for_bit():
    whole, first, second = (gan("bf16", 1, regularized("r1")) for _ in range(3))
    trained(whole)
    steps = train(first)
    for _ in range(3):
        next(steps)
    second.restore(first.state.tensors(), first.state.place())
    trained(second)
    assert equal(whole.state.tensors(), second.state.tensors())


def test_tf32_is_refused_on_the_cpu():
    with pytest.raises(ConfigError, match=r"tf32 needs a CUDA device .*; the run is on cpu"):
        gan("tf32")


@pytest.mark.parametrize(("name", "within"), [("fp32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")])
def test_tf32_is_enabled_only_within_a_step(name, within):
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [backend.fp32_precision for backend in backends]
    with Precision(name, torch.device("cuda")).float32_products():
        assert [backend.fp32_precision for backend in backends] == [within, within]
    assert [backend.fp32_precision for backend in backends] == before
