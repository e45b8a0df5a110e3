"""The precision of a run: what networks multiply in, what stays in float32, and what the rest of the process sees."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Output
from gancore.errors import ConfigError
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.precision import Precision
from gancore_plugins.regularizers.gradients import R1
from gancore_plugins.regularizers.lipschitz import GradientPenalty
from helpers.tiny_components import Hinge, TinyDiscriminator, TinyGenerator, dataset, equal, trained, weights

CPU = torch.device("cpu")


class Telling(nn.Module):
    """A network that tells the types of what it is given and of what its layers make of it."""

    def __init__(self, network):
        super().__init__()
        self.network, self.given, self.made = network, set(), set()
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.register_forward_hook(lambda module, given, made: self.made.add(made.dtype))

    def forward(self, batch):
        self.given.add(batch.dtype)
        return self.network(batch)


def gan(precision, seed=0, regularizers=None, **training):
    torch.manual_seed(seed)
    return GAN(
        Telling(TinyGenerator().build((1, 4, 4), 5, None)),
        Telling(TinyDiscriminator().build((1, 4, 4), None)),
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
def test_bfloat16_changes_a_run_by_its_rounding_alone(seed, kind, fakes):
    runs = [gan(precision, seed, regularized(kind), fakes=fakes) for precision in ("fp32", "bf16")]
    exact, rounded = ([step.scalars() for step in train(run)] for run in runs)
    for one, other in zip(exact, rounded, strict=True):
        for key in one.keys() - {"seconds"}:
            assert other[key] == pytest.approx(one[key], rel=0.05, abs=0.02)
    assert not equal(weights(runs[0]), weights(runs[1]))


@pytest.mark.parametrize("kind", ["none", "r1", "wgan-gp"])
def test_products_are_bfloat16_and_all_else_is_float32(kind):
    run = gan("bf16", regularizers=regularized(kind))
    for network in (run.generator, run.discriminator):
        network.made.clear()  # the rehearsal, which compares, is in float32
    for step in train(run):
        logits = step.real_logits.dtype, step.fake_logits.dtype
    assert run.generator.made == run.discriminator.made == {torch.bfloat16}
    assert run.generator.given == run.discriminator.given == {torch.float32}
    assert set(logits) == {torch.float32}
    tensors = run.tensors().items()
    assert {tensor.dtype for name, tensor in tensors if not name.startswith("random")} == {torch.float32}


class Speaking(nn.Module):
    """A discriminator that says all that it may."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 1)

    def forward(self, images):
        logits = self.layer(images.flatten(1))
        return Output(logits, features=(2 * logits,), heads={"thrice": 3 * logits, "sure": logits.flatten() > 0})


class Listening:
    """A loss that tells the types of what it is given."""

    needs_real = False

    def __init__(self):
        self.given = set()

    def discriminator(self, real, fake):
        for each in (real, fake):
            self.given.add((each.logits.dtype, each.features[0].dtype, *(head.dtype for head in each.heads.values())))
        return Hinge().discriminator(real, fake)

    def generator(self, fake, real):
        return Hinge().generator(fake, real)


@pytest.mark.parametrize("joined", [True, False])
def test_a_loss_is_given_all_that_d_said_in_float32(joined):
    options = Options(duration="1 steps", batch_size=4, latent={"dim": 5}, training={"precision": "bf16"})
    loss = Listening()
    run = GAN(TinyGenerator().build((1, 4, 4), 5, None), Speaking(), dataset(12), loss, options, "cpu")
    loss.given.clear()
    assert len(list(train(run, joined=joined))) == 1
    assert loss.given == {(torch.float32, torch.float32, torch.float32, torch.bool)}


def test_float32_is_the_default():
    run = gan("fp32")
    assert Options().training.precision == "fp32"
    trained(run)
    assert run.generator.made == run.discriminator.made == {torch.float32}


def test_the_consumer_and_the_samples_stay_in_float32():
    run = gan("bf16")
    for _ in train(run):
        assert not torch.is_autocast_enabled("cpu")
        assert run.sampler()(run.latent(2)).dtype == torch.float32


def test_a_run_in_bfloat16_is_restored_bit_for_bit():
    whole, first, second = (gan("bf16", 1, regularized("r1")) for _ in range(3))
    trained(whole)
    steps = train(first)
    for _ in range(3):
        next(steps)
    second.restore(first.tensors(), first.place())
    trained(second)
    assert equal(whole.tensors(), second.tensors())


def test_auto_is_bfloat16_for_images_where_the_processor_has_it():
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert Precision.chosen("auto", CPU, (1, 4, 4)).name == ("bf16" if has else "fp32")
    assert Precision.chosen("auto", CPU, (2,)).name == "fp32"
    assert Precision.chosen("bf16", CPU, (2,)).name == "bf16"


def test_tensor_float_is_refused_where_there_is_none():
    with pytest.raises(ConfigError, match=r"tf32 needs a CUDA device .*; the run is on cpu"):
        gan("tf32")


@pytest.mark.parametrize(("name", "within"), [("fp32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")])
def test_tensor_float_is_for_a_step_that_asks_for_it(name, within):
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [backend.fp32_precision for backend in backends]
    with Precision(name, torch.device("cuda")).step():
        assert [backend.fp32_precision for backend in backends] == [within, within]
    assert [backend.fp32_precision for backend in backends] == before
