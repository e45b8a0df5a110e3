import copy
import math

import pytest
import torch
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Output
from gancore.errors import ConfigError, NonFiniteError, PluginError
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore_plugins.losses.bce import NonSaturating
from helpers.tiny_components import (
    Hinge,
    assembled,
    dataset,
    equal,
)

GOOD_GENERATOR = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
GOOD_DISCRIMINATOR = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))


@pytest.mark.parametrize(
    ("changes", "joined"),
    [({}, True), ({"batch_norm": True}, False), ({"dropout": 0.5}, False)],
)
def test_preflight_joins_real_and_fake_unless_the_discriminator_mixes_samples(changes, joined):
    assert assembled(discriminator={"name": "tiny", **changes}).critic.one_pass is joined


def test_preflight_does_not_depend_on_whether_gradients_are_enabled():
    with torch.no_grad():
        gan = GAN(GOOD_GENERATOR, GOOD_DISCRIMINATOR, dataset(), Hinge(), device="cpu")
        assert next(train(gan)).step == 1
        assert not torch.is_grad_enabled()
    assert gan.critic.one_pass


@pytest.mark.parametrize("statistics", [True, False])
def test_preflight_detects_mixing_in_a_discriminator_that_is_zero_at_the_start(statistics):
    """Without running statistics, only perturbed weights show that the outputs depend on the batch."""
    normalization = nn.BatchNorm1d(16, track_running_stats=statistics)
    discriminator = nn.Sequential(nn.Flatten(), normalization, nn.Linear(16, 1))
    nn.init.zeros_(discriminator[2].weight)
    gan = GAN(GOOD_GENERATOR, discriminator, dataset(), Hinge(), device="cpu")
    assert gan.critic.one_pass is False


def test_preflight_changes_neither_networks_nor_random_state():
    discriminator = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 1))
    generator = nn.Sequential(nn.Linear(100, 16), nn.BatchNorm1d(16), nn.Unflatten(1, (1, 4, 4)))
    before = copy.deepcopy([generator.state_dict(), discriminator.state_dict()])
    images = dataset()
    random_state = torch.get_rng_state()
    GAN(generator, discriminator, images, NonSaturating(), device="cpu")

    assert torch.equal(torch.get_rng_state(), random_state)
    for state_before, module in zip(before, (generator, discriminator), strict=True):
        assert equal(state_before, module.state_dict())


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(100, 16)

    def forward(self, latent):
        return self.layer(latent).detach().unflatten(1, (1, 4, 4))


@pytest.mark.parametrize(
    ("generator", "discriminator", "words"),
    [
        (nn.Linear(100, 16), GOOD_DISCRIMINATOR, "shape"),
        (nn.Linear(99, 16), GOOD_DISCRIMINATOR, "the generator failed"),
        (Detached(), GOOD_DISCRIMINATOR, "gradient"),
        (GOOD_GENERATOR, nn.Linear(3, 1), "the discriminator failed"),
        (GOOD_GENERATOR, nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0)), "logits"),
    ],
)
def test_preflight_rejects_networks_that_do_not_fit(generator, discriminator, words):
    with pytest.raises(PluginError, match=words):
        GAN(generator, discriminator, dataset(), NonSaturating(), device="cpu")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda scores: scores.logits, "scalar"),
        (lambda scores: 3.0, "scalar"),
        (lambda scores: scores.logits.mean().detach(), "gradient"),
        (lambda scores: scores.nonsense, "AttributeError"),
    ],
)
def test_preflight_rejects_a_loss_that_is_no_scalar_with_a_gradient(body, words):
    broken = type("Broken", (Hinge,), {"name": "broken", "generator": lambda self, fake, real: body(fake)})()
    with pytest.raises(PluginError, match=words):
        GAN(GOOD_GENERATOR, GOOD_DISCRIMINATOR, dataset(), broken, device="cpu")


def test_preflight_rejects_a_last_batch_that_a_network_cannot_take():
    generator = {"name": "mlp", "normalization": "batch"}
    with pytest.raises(ConfigError, match=r"batch_size 3 leaves a last batch of 1 of 10 images.*generator failed"):
        assembled(generator=generator, batch_size=3)
    with pytest.raises(ConfigError, match=r"last batch of 1.*discriminator failed"):
        assembled(discriminator={"name": "tiny", "batch_norm": True}, batch_size=9)
    with pytest.raises(ConfigError, match=r"batch_size 1 leaves a last batch of 1 of 10"):
        assembled(generator=generator, batch_size=1)
    assert assembled(generator=generator, batch_size=4).feed.size == 10


class InGroupsOfFour(nn.Module):
    """A discriminator that compares the images of each group of four."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(16, 1)

    def forward(self, images):
        groups = images.flatten(1).view(-1, 4, 16)
        return self.last((groups - groups.mean(dim=1, keepdim=True)).view(-1, 16))


def test_preflight_rejects_a_last_batch_that_the_groups_of_a_network_do_not_divide():
    with pytest.raises(ConfigError, match=r"batch_size 64 leaves a last batch of 21 of 149 .*discriminator failed"):
        GAN(GOOD_GENERATOR, InGroupsOfFour(), dataset(149), NonSaturating(), Options(batch_size=64), "cpu")
    gan = GAN(GOOD_GENERATOR, InGroupsOfFour(), dataset(148), NonSaturating(), Options(batch_size=64), "cpu")
    assert gan.feed.smallest_part == 20


def test_preflight_tries_a_last_batch_in_micro_batches():
    sizes = []

    class Counting(nn.Linear):
        def forward(self, images):
            sizes.append(len(images))
            return super().forward(images.flatten(1))

    options = Options(batch_size=64, training={"accumulate": 8})
    GAN(GOOD_GENERATOR, Counting(16, 1), dataset(124), NonSaturating(), options, "cpu")
    assert max(sizes) == 16, "real and generated images of a micro-batch of 60"


class CustomOutput(nn.Module):
    """A discriminator whose output is made by a function of its hidden layer (N, 5) and its logits (N, 1)."""

    def __init__(self, make_output):
        super().__init__()
        self.first, self.norm, self.last = (
            nn.Linear(16, 5),
            nn.BatchNorm1d(5, track_running_stats=False),
            nn.Linear(5, 1),
        )
        self.make_output = make_output

    def forward(self, images):
        hidden = self.first(images.flatten(1))
        return self.make_output(self, hidden, self.last(hidden))


@pytest.mark.parametrize(
    ("make_output", "words"),
    [
        (lambda d, hidden, logits: logits[:4], "N = 8"),
        (lambda d, hidden, logits: Output(logits, (hidden.mean(0),)), r"features\[0\].*begin with N"),
        (lambda d, hidden, logits: Output(logits, (), {"code": hidden[0]}), "heads.*begin with N"),
        (lambda d, hidden, logits: Output(hidden.sum()), "logits"),
    ],
)
def test_preflight_rejects_discriminator_outputs_of_a_wrong_shape(make_output, words):
    with pytest.raises(PluginError, match=words):
        GAN(GOOD_GENERATOR, CustomOutput(make_output), dataset(), Hinge(), device="cpu")


def test_logits_that_are_not_finite_fail_in_the_first_step():
    gan = GAN(
        GOOD_GENERATOR, CustomOutput(lambda d, hidden, logits: logits * math.nan), dataset(), Hinge(), device="cpu"
    )
    with pytest.raises(NonFiniteError, match="at step 1, the discriminator's loss is not finite"):
        next(train(gan))


def test_preflight_detects_features_that_mix_samples():
    independent = CustomOutput(lambda d, hidden, logits: Output(logits, (hidden,)))
    mixing = CustomOutput(lambda d, hidden, logits: Output(logits, (d.norm(hidden),)))
    assert GAN(GOOD_GENERATOR, independent, dataset(), Hinge(), device="cpu").critic.one_pass
    assert not GAN(GOOD_GENERATOR, mixing, dataset(), Hinge(), device="cpu").critic.one_pass


def test_preflight_does_not_join_when_buffers_change_in_every_pass():
    class CountsPasses(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(16, 1))
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, images):
            self.passes += 1
            return super().forward(images)

    assert not GAN(GOOD_GENERATOR, CountsPasses(), dataset(), Hinge(), device="cpu").critic.one_pass


def test_preflight_rejects_state_that_cannot_be_saved():
    class ExtraState(nn.Sequential):
        def get_extra_state(self):
            return "text"

        def set_extra_state(self, state):
            pass

    discriminator = ExtraState(nn.Flatten(), nn.Linear(16, 1))
    with pytest.raises(PluginError, match="must be tensors"):
        GAN(GOOD_GENERATOR, discriminator, dataset(), Hinge(), device="cpu")


def test_preflight_rejects_a_generator_that_is_not_a_module():
    with pytest.raises(PluginError, match=r"a generator must be an nn\.Module; received NoneType"):
        GAN(None, GOOD_DISCRIMINATOR, dataset(), Hinge(), device="cpu")


class Wrapped(nn.Module):
    """A network whose output is passed through `change`."""

    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, batch):
        return self.change(self.network(batch))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda images: images.double(),
            r"images .* torch\.float32, on cpu.*received .* torch\.float64",
        ),
        (lambda images: images.to("meta"), r"a generator must return images .* on cpu.*received .* on meta"),
        (lambda images: None, "a generator must return images .* received NoneType"),
    ],
)
def test_preflight_rejects_images_of_a_wrong_type_or_device(change, words):
    with pytest.raises(PluginError, match=words) as error:
        GAN(Wrapped(GOOD_GENERATOR, change), GOOD_DISCRIMINATOR, dataset(), Hinge(), device="cpu")
    assert error.value.part == "generator"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda logits: logits.long(), "logits must be floating point"),
        (lambda logits: logits.to("meta"), "on cpu; received .* on meta"),
        (lambda logits: logits.detach(), "detached from its parameters"),
        (lambda logits: Output(logits, (logits.to("meta"),)), r"features\[0\].* on cpu"),
    ],
)
def test_preflight_rejects_logits_of_a_wrong_type_or_without_gradient(change, words):
    with pytest.raises(PluginError, match=words) as error:
        GAN(GOOD_GENERATOR, Wrapped(GOOD_DISCRIMINATOR, change), dataset(), Hinge(), device="cpu")
    assert error.value.part == "discriminator"


def test_preflight_rejects_a_discriminator_that_detaches_its_images():
    class DetachesImages(nn.Sequential):
        def forward(self, images):
            return super().forward(images.detach())

    with pytest.raises(PluginError, match="detached from the images"):
        GAN(GOOD_GENERATOR, DetachesImages(nn.Flatten(), nn.Linear(16, 1)), dataset(), Hinge(), device="cpu")


class FailingBackward(torch.autograd.Function):
    """The identity, with a backward pass that fails."""

    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        raise ValueError("no way back")


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda logits: None, "a loss must return a scalar .* received NoneType"),
        (lambda logits: 3, "a loss must return a scalar .* received int"),
        (lambda logits: logits, r"a loss must return a scalar .* received shape \(4, 1\)"),
        (lambda logits: logits.detach().mean(), "a loss must return a scalar .* without a gradient"),
        (lambda logits: logits.mean().to("meta"), "on cpu, in the .* received .* on meta"),
        (
            lambda logits: FailingBackward.apply(logits.mean()),
            "gradient of the loss in .* failed: ValueError: no way",
        ),
    ],
)
def test_preflight_rejects_losses_that_cannot_be_minimized(player, body, words):
    methods = {"discriminator": lambda self, real, fake: body(fake.logits)}
    if player == "generator":
        methods = {"generator": lambda self, fake, real: body(fake.logits)}
    broken = type("Broken", (Hinge,), {"name": "broken", **methods})()
    with pytest.raises(PluginError, match=words):
        GAN(GOOD_GENERATOR, GOOD_DISCRIMINATOR, dataset(), broken, device="cpu")


class IgnoresState(nn.Sequential):
    """Ignores the state that it is given."""

    def load_state_dict(self, state_dict, strict=True, assign=False):
        return None


class RenamesState(nn.Sequential):
    """Returns its state under names that it cannot load."""

    def state_dict(self, *arguments, **options):
        return {f"my.{key}": value for key, value in super().state_dict(*arguments, **options).items()}


class SparseBuffer(nn.Sequential):
    def __init__(self, *layers):
        super().__init__(*layers)
        self.register_buffer("odd", torch.eye(3).to_sparse())


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (IgnoresState, r"the state of the discriminator must be what load_state_dict\(\) takes back; '1\.weight'"),
        (RenamesState, r"the discriminator failed in load_state_dict\(\): RuntimeError"),
        (SparseBuffer, "the state of the discriminator must be tensors that can be saved; 'odd' is not"),
    ],
)
def test_preflight_rejects_state_that_cannot_be_loaded_again(kind, words):
    with pytest.raises(PluginError, match=words) as error:
        GAN(GOOD_GENERATOR, kind(nn.Flatten(), nn.Linear(16, 1)), dataset(), Hinge(), device="cpu")
    assert error.value.part == "discriminator"


def test_preflight_accepts_state_that_is_nan():
    class NanBuffer(nn.Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.register_buffer("unknown", torch.full((2,), torch.nan))

    discriminator = NanBuffer(nn.Flatten(), nn.Linear(16, 1))
    assert GAN(GOOD_GENERATOR, discriminator, dataset(), Hinge(), device="cpu").discriminator is discriminator
