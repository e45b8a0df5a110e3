from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Output, Spec
from gancore.errors import PluginError
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.networks import Freezer
from gancore_plugins.losses.bce import NonSaturating
from gancore_plugins.regularizers.gradients import R1
from gancore_plugins.regularizers.lipschitz import GradientPenalty
from helpers.tiny_components import Hinge, TinyGenerator, assembled, dataset, equal, trained, weights


def test_seed_determines_the_weights_bit_for_bit():
    first, _ = trained(assembled(ema={}, discriminator={"name": "tiny", "dropout": 0.5}))
    torch.manual_seed(123)
    second, _ = trained(assembled(ema={}, discriminator={"name": "tiny", "dropout": 0.5}))
    assert equal(first, second)


def test_training_leaves_the_random_state_of_the_process_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    gan = assembled(discriminator={"name": "tiny", "dropout": 0.5})
    for _ in train(gan):
        assert torch.equal(torch.get_rng_state(), before)


def test_random_numbers_drawn_between_steps_do_not_change_the_run():
    expected, _ = trained(assembled(discriminator={"name": "tiny", "dropout": 0.5}))
    gan = assembled(discriminator={"name": "tiny", "dropout": 0.5})
    for _ in train(gan):
        torch.rand(7)
    assert equal(weights(gan), expected)


@pytest.mark.parametrize(
    ("duration", "steps"), [("7 steps", 7), ("2 epochs", 6), ("0.5 epochs", 2), ("0.016 kimg", 5), ("1 steps", 1)]
)
def test_duration_is_a_total(duration, steps):
    # 10 images in batches of 4, 4 and 2
    gan = assembled(duration=duration)
    records = list(train(gan))
    assert [record.step for record in records] == list(range(1, steps + 1))
    assert records[-1].done >= 1
    assert list(train(gan)) == []


def test_duration_in_minutes_ends_the_run_by_the_clock():
    gan = assembled(duration="0.001 minutes")
    steps = list(train(gan))
    assert len(steps) > 0
    assert steps[-1].seconds >= 0.06
    assert all(step.seconds < 0.06 for step in steps[:-1])


@given(batch=st.integers(1, 10), updates=st.integers(1, 3))
@settings(max_examples=15)
def test_progress_counts_real_images_that_the_discriminator_has_seen(batch, updates):
    gan = assembled(batch_size=batch, training={"discriminator_steps": updates})
    stream = gan.feed.batches(0)
    for step in train(gan):
        seen = step.images_seen
    assert seen == sum(len(next(stream).images) for _ in range(6 * updates))


def test_joined_and_separate_passes_differ_only_by_rounding():
    together, apart = assembled(duration="30 steps"), assembled(duration="30 steps")
    together.critic.one_pass, apart.critic.one_pass = True, False
    for first, second in zip(train(together), train(apart), strict=True):
        torch.testing.assert_close(first.discriminator_loss, second.discriminator_loss, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(first.real_logits, second.real_logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first.fake_logits, second.fake_logits, rtol=1e-4, atol=1e-5)


def test_frozen_restores_requires_grad_of_each_parameter():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].weight.requires_grad_(False)
    before = [parameter.requires_grad for parameter in module.parameters()]
    with Freezer([module]).frozen():
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert [parameter.requires_grad for parameter in module.parameters()] == before


def test_parameter_without_requires_grad_never_changes():
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 1))
    discriminator[1].weight.requires_grad_(False)
    frozen_before, other_before = discriminator[1].weight.clone(), discriminator[3].weight.clone()
    generator = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    list(train(GAN(generator, discriminator, dataset(), Hinge(), Options(duration="3 steps"), "cpu")))
    assert torch.equal(discriminator[1].weight, frozen_before)
    assert not torch.equal(discriminator[3].weight, other_before)


@pytest.mark.parametrize("shape", [(3, 12, 20), (4, 5, 5), (1, 1, 1), (2,)])
@pytest.mark.parametrize("networks", ["mlp", "tiny"])
def test_loop_trains_on_data_of_any_shape(shape, networks):
    gan = assembled(generator=networks, discriminator=networks, dataset={"name": "noise", "shape": list(shape)})
    before = weights(gan)
    assert len(list(train(gan))) == 6
    after = weights(gan)
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert {"generator", "discriminator"} <= changed
    assert gan.generator(gan.latent(2)).shape == (2, *shape)


def test_gan_takes_modules_and_a_dataset_without_a_plugin():
    class Brightness(torch.utils.data.Dataset):
        def __len__(self):
            return 7

        def __getitem__(self, index):
            return torch.full((1, 4, 4), 30 * index, dtype=torch.uint8), index % 2

    generator = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    options = Options(duration="2 epochs", batch_size=3, latent={"dim": 6})
    gan = GAN(generator, discriminator, Brightness(), NonSaturating(), options, "cpu")
    records = list(train(gan))
    assert len(records) == 6
    assert records[-1].epoch == 2.0


def test_conditional_training_uses_the_labels_of_the_real_batch():
    seen = []

    class RecordingLoss(Hinge):
        name = "recording"

        def discriminator(self, real, fake):
            seen.append((real.condition, fake.condition))
            return super().discriminator(real, fake)

    gan = assembled(training={"conditional": True}, dataset={"name": "noise", "labeled": True})
    gan.loss.objective = RecordingLoss()
    assert gan.spec.condition == 3
    stream = gan.feed.batches(0)
    for _ in train(gan):
        expected = next(stream).condition
        assert torch.equal(seen[-1][0], expected)
        assert torch.equal(seen[-1][1], expected)


def test_loss_receives_features_and_heads_of_real_and_fake():
    class FeaturesAndHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(16, 5), nn.Linear(5, 1)

        def forward(self, images):
            hidden = self.first(images.flatten(1))
            return Output(self.last(hidden), (hidden,), {"code": hidden[:, :2]})

    class FeatureMatching(Hinge):
        name = "feature-matching"
        needs_real = True

        def generator(self, fake, real):
            assert not real.logits.requires_grad
            assert fake.heads["code"].shape == real.heads["code"].shape == (len(fake.images), 2)
            return (fake.features[0].mean(0) - real.features[0].mean(0)).square().sum()

        def discriminator(self, real, fake):
            assert real.features[0].shape == fake.features[0].shape == (len(real.images), 5)
            assert not torch.equal(real.features[0], fake.features[0])
            return super().discriminator(real, fake)

    generator = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    for joined in (True, False):
        gan = GAN(generator, FeaturesAndHeads(), dataset(), FeatureMatching(), Options(duration="3 steps"), "cpu")
        assert gan.critic.one_pass
        gan.critic.one_pass = joined
        assert len(list(train(gan))) == 3


def test_generator_step_scores_real_images_only_if_the_loss_needs_them():
    def check(fake, real):
        assert real is None
        return -fake.logits.mean()

    gan = assembled()
    gan.loss.objective = type(
        "Checking", (Hinge,), {"name": "checking", "generator": lambda self, fake, real: check(fake, real)}
    )()
    list(train(gan))


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("fakes", ["shared", "fresh"])
def test_shared_fakes_are_used_in_both_steps_and_fresh_fakes_are_not(fakes, updates):
    seen = {"discriminator": [], "generator": []}

    class RecordingLoss(Hinge):
        name = "recording"

        def discriminator(self, real, fake):
            assert not fake.images.requires_grad
            seen["discriminator"].append(fake.latent)
            return super().discriminator(real, fake)

        def generator(self, fake, real):
            seen["generator"].append(fake.latent)
            return super().generator(fake, real)

    gan = assembled(training={"fakes": fakes, "discriminator_steps": updates})
    gan.loss.objective = RecordingLoss()
    for _ in train(gan):
        assert torch.equal(seen["discriminator"][-1], seen["generator"][-1]) is (fakes == "shared")
    assert len(seen["discriminator"]) == updates * len(seen["generator"]) == updates * 6


def test_learning_rate_schedule_follows_the_images_seen():
    schedule = {"from": 0.1, "to": 0.0, "kimg": 0.02, "shape": "linear"}
    gan = assembled(optimizer={"generator": {"lr": schedule, "betas": [{"from": 0.0, "to": 0.5, "kimg": 0.02}, 0.99]}})
    group = gan.optimizers["generator"].param_groups[0]
    before = 0
    for step in train(gan):
        assert group["lr"] == pytest.approx(0.1 * max(0, 1 - before / 20))
        assert group["betas"] == (pytest.approx(0.5 * min(1, before / 20)), 0.99)
        before = step.images_seen


def test_grad_mode_of_the_caller_does_not_change_the_run():
    expected, _ = trained(assembled())
    gan = assembled()
    with torch.no_grad():
        for _ in train(gan):
            assert not torch.is_grad_enabled()
    assert equal(weights(gan), expected)


def test_failed_step_is_not_counted():
    class FailingLoss(Hinge):
        name = "failing"

        def generator(self, fake, real):
            raise KeyError("no generator step")

    gan = assembled()
    gan.loss.objective = FailingLoss()
    with pytest.raises(PluginError, match=r"^at step 1, the loss failed in generator\(\): KeyError"):
        next(train(gan))
    assert gan.state.place() == {"step": 0, "images_seen": 0, "seconds": 0.0, "nonfinite": 0}


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize(
    "returned",
    [
        None,
        3,
        torch.zeros(2, requires_grad=True),
        torch.zeros(()),
        torch.zeros((), dtype=torch.cfloat, requires_grad=True),
    ],
    ids=repr,
)
def test_loss_that_returns_no_scalar_in_a_later_step_is_blamed(monkeypatch, player, returned):
    gan = assembled()
    steps = train(gan)
    next(steps)
    monkeypatch.setattr(gan.loss, "objective", Hinge())
    monkeypatch.setattr(Hinge, player, lambda self, *scores: returned)
    with pytest.raises(
        PluginError, match=f"^at step 2, a loss must return a scalar tensor .* in the {player}'s"
    ) as error:
        next(steps)
    assert error.value.part == "loss"


def spectral_gan(penalty):
    """Return a GAN whose discriminator has spectral normalization and a learning rate of zero."""
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(16, 6))
    frozen_weights = {"name": "SGD", "lr": 0.0}
    return GAN(
        TinyGenerator().build(Spec((1, 4, 4), 5)),
        nn.Sequential(nn.Flatten(), layer, nn.Tanh(), nn.Linear(6, 1)),
        dataset(12),
        Hinge(),
        Options(
            duration="5 steps",
            batch_size=4,
            latent={"dim": 5},
            optimizer={"generator": {}, "discriminator": frozen_weights},
        ),
        "cpu",
        regularizers={"penalty": penalty} if penalty else {},
    )


@pytest.mark.parametrize("penalty", [None, R1(interval=2), GradientPenalty()], ids=["none", "lazy r1", "wgan-gp"])
@pytest.mark.parametrize("joined", [True, False])
def test_spectral_normalization_iterates_once_per_discriminator_update(penalty, joined):
    run = spectral_gan(penalty)
    assert run.critic.one_pass
    run.critic.one_pass = joined
    reference = deepcopy(run.discriminator)
    for _ in train(run):
        with torch.no_grad():
            reference(torch.zeros(1, 16))
    for buffer, expected in zip(run.discriminator.buffers(), reference.buffers(), strict=True):
        assert torch.equal(buffer, expected)
    assert all(part.training for part in run.discriminator.modules())
