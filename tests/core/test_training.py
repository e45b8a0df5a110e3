import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from gancore.config import EMASettings, Options, Run, resolve
from gancore.contracts import Output, StatefulLoss
from gancore.errors import CheckpointError, ConfigError, PluginError
from gancore.gan import GAN, update_average
from gancore.layers import Layer
from gancore.players import frozen
from gancore.training import train
from gancore_plugins.bce import NonSaturating
from worlds import PARTS, Hinge, Noise, TinyDiscriminator, TinyGenerator, catalog


def assembled(*layers, **changes):
    said = [Layer("test", layer) for layer in (PARTS, {"duration": "6 steps", "batch_size": 4}, *layers, changes)]
    return GAN.assemble(resolve(said, catalog()), Path(), "cpu")


def weights(gan):
    return {key: value.clone() for key, value in gan.tensors().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def trained(gan):
    steps = list(train(gan))
    return weights(gan), steps


def dataset(count=10, shape=(1, 4, 4)):
    return TensorDataset(torch.randint(0, 256, (count, *shape), dtype=torch.uint8), torch.zeros(count).long())


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    first, _ = trained(assembled(ema={}, discriminator={"name": "tiny", "dropout": 0.5}))
    torch.manual_seed(123)
    second, _ = trained(assembled(ema={}, discriminator={"name": "tiny", "dropout": 0.5}))
    assert equal(first, second)


@pytest.mark.parametrize("key", ["generator.0.weight", "discriminator.0.weight", "random.noise"])
def test_another_seed_gives_another_run(key):
    assert not torch.equal(weights(assembled(seed=0))[key], weights(assembled(seed=1))[key])


def test_training_leaves_the_random_state_of_the_process_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    gan = assembled(discriminator={"name": "tiny", "dropout": 0.5})
    for _ in train(gan):
        assert torch.equal(torch.get_rng_state(), before)


def test_what_the_consumer_draws_does_not_change_the_run():
    expected, _ = trained(assembled(discriminator={"name": "tiny", "dropout": 0.5}))
    gan = assembled(discriminator={"name": "tiny", "dropout": 0.5})
    for _ in train(gan):
        torch.rand(7)
    assert equal(weights(gan), expected)


def test_a_run_taken_up_again_equals_the_uninterrupted_one():
    changes = {
        "discriminator": {"name": "tiny", "dropout": 0.5},
        "ema": {},
        "optimizer": {"generator": {"name": "SGD", "momentum": 0.5}},
    }
    expected, steps = trained(assembled(changes))
    first = assembled(changes)
    early = train(first)
    for _ in range(3):
        next(early)
    second = assembled(changes)
    second.restore(weights(first), first.place())
    rest = list(train(second))

    assert equal(weights(second), expected)
    assert [step.step for step in rest] == [4, 5, 6]
    assert [float(step.generator_loss) for step in rest] == [float(step.generator_loss) for step in steps[3:]]


@pytest.mark.parametrize("averaged", [True, False])
def test_a_run_begun_from_another_has_its_weights_and_nothing_else(averaged):
    first, _ = trained(assembled(**({"ema": {"half_life_kimg": 0.1}} if averaged else {})))
    gan = assembled(ema={}, seed=1)
    fresh = weights(gan)
    gan.begin_from(first)
    for name, value in weights(gan).items():
        kind, _, key = name.partition(".")
        source = {"ema": "ema" if averaged else "generator"}.get(kind, kind)
        expected = first[f"{source}.{key}"] if kind in ("generator", "discriminator", "ema") else fresh[name]
        assert torch.equal(value, expected), name
    assert gan.place() == {"step": 0, "images_seen": 0, "seconds": 0.0}


@pytest.mark.parametrize(
    ("duration", "steps"), [("7 steps", 7), ("2 epochs", 6), ("0.5 epochs", 2), ("0.016 kimg", 5), ("1 steps", 1)]
)
def test_the_duration_is_a_total(duration, steps):
    # 10 images in batches of 4, 4 and 2
    gan = assembled(duration=duration)
    records = list(train(gan))
    assert [record.step for record in records] == list(range(1, steps + 1))
    assert records[-1].done >= 1
    assert list(train(gan)) == []


def test_minutes_end_a_run_by_the_clock():
    gan = assembled(duration="0.001 minutes")
    steps = list(train(gan))
    assert len(steps) > 0
    assert steps[-1].seconds >= 0.06
    assert all(step.seconds < 0.06 for step in steps[:-1])


@given(batch=st.integers(1, 12), updates=st.integers(1, 3))
@settings(max_examples=15)
def test_progress_counts_real_images_that_the_discriminator_has_seen(batch, updates):
    gan = assembled(batch_size=batch, training={"discriminator_steps": updates})
    stream = gan.feed.batches(0)
    for step in train(gan):
        seen = step.images_seen
    assert seen == sum(len(next(stream).images) for _ in range(6 * updates))


def test_joined_or_apart_gives_the_same_run_but_for_rounding():
    together, apart = assembled(duration="30 steps"), assembled(duration="30 steps")
    for first, second in zip(train(together, joined=True), train(apart, joined=False), strict=True):
        torch.testing.assert_close(first.discriminator_loss, second.discriminator_loss, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(first.real_logits, second.real_logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first.fake_logits, second.fake_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "joined"),
    [({}, True), ({"batch_norm": True}, False), ({"dropout": 0.5}, False)],
)
def test_a_discriminator_that_mixes_samples_sees_real_and_fake_apart(changes, joined):
    assert assembled(discriminator={"name": "tiny", **changes}).joined is joined


def test_a_discriminator_that_begins_at_zero_cannot_hide_that_it_mixes():
    mixer = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 1))
    nn.init.zeros_(mixer[2].weight)
    gan = GAN(nn.Sequential(nn.Linear(100, 16), nn.Unflatten(1, (1, 4, 4))), mixer, dataset(), Hinge(), device="cpu")
    assert gan.joined is False


def test_the_rehearsal_changes_nothing():
    discriminator = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 1))
    generator = nn.Sequential(nn.Linear(100, 16), nn.BatchNorm1d(16), nn.Unflatten(1, (1, 4, 4)))
    before = copy.deepcopy([generator.state_dict(), discriminator.state_dict()])
    images = dataset()
    state = torch.get_rng_state()
    GAN(generator, discriminator, images, NonSaturating(), device="cpu")

    assert torch.equal(torch.get_rng_state(), state)
    for kept, module in zip(before, (generator, discriminator), strict=True):
        assert equal(kept, module.state_dict())


def test_the_frozen_discriminator_gets_back_what_each_parameter_wanted():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].weight.requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in module.parameters()]
    with frozen(module):
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert [parameter.requires_grad for parameter in module.parameters()] == wanted


def test_a_parameter_that_wants_no_gradient_never_moves():
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 1))
    discriminator[1].weight.requires_grad_(False)
    kept, moved = discriminator[1].weight.clone(), discriminator[3].weight.clone()
    generator = nn.Sequential(nn.Linear(100, 16), nn.Unflatten(1, (1, 4, 4)))
    list(train(GAN(generator, discriminator, dataset(), Hinge(), Options(duration="3 steps"), "cpu")))
    assert torch.equal(discriminator[1].weight, kept)
    assert not torch.equal(discriminator[3].weight, moved)


@pytest.mark.parametrize("shape", [(3, 12, 20), (4, 5, 5), (1, 1, 1), (2,)])
@pytest.mark.parametrize("networks", ["mlp", "tiny"])
def test_any_data_trains_without_a_change_to_the_core(shape, networks):
    gan = assembled(generator=networks, discriminator=networks, dataset={"name": "noise", "shape": list(shape)})
    before = weights(gan)
    assert len(list(train(gan))) == 6
    after = weights(gan)
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert {"generator", "discriminator"} <= moved
    assert gan.generator(gan.latent(2)).shape == (2, *shape)


def test_modules_and_a_dataset_of_the_users_own_need_no_plugin():
    class Doubling(torch.utils.data.Dataset):
        def __len__(self):
            return 7

        def __getitem__(self, index):
            return torch.full((1, 4, 4), 30 * index, dtype=torch.uint8), index % 2

    generator = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    options = Options(duration="2 epochs", batch_size=3, latent={"dim": 6})
    gan = GAN(generator, discriminator, Doubling(), NonSaturating(), options, "cpu")
    records = list(train(gan))
    assert len(records) == 6
    assert records[-1].epoch == 2.0


def test_conditional_networks_are_given_the_labels_of_the_real_batch():
    seen = []

    class Watching(Hinge):
        name = "watching"

        def discriminator(self, real, fake):
            seen.append((real.labels, fake.labels))
            return super().discriminator(real, fake)

    gan = assembled(training={"conditional": True}, dataset={"name": "noise", "labelled": True})
    gan.objective = Watching()
    assert gan.num_classes == 3
    stream = gan.feed.batches(0)
    for _ in train(gan):
        expected = next(stream).labels
        assert torch.equal(seen[-1][0], expected)
        assert torch.equal(seen[-1][1], expected)


def test_conditional_training_needs_classes():
    with pytest.raises(ConfigError, match="classes"):
        assembled(training={"conditional": True})


def test_outputs_with_features_and_heads_reach_the_loss_for_real_and_for_fake():
    class Rich(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(16, 5), nn.Linear(5, 1)

        def forward(self, images):
            hidden = self.first(images.flatten(1))
            return Output(self.last(hidden), (hidden,), {"code": hidden[:, :2]})

    class Matching(Hinge):
        name = "matching"
        needs_real = True

        def generator(self, fake, real):
            assert not real.logits.requires_grad
            assert fake.heads["code"].shape == real.heads["code"].shape == (len(fake.images), 2)
            return (fake.features[0].mean(0) - real.features[0].mean(0)).square().sum()

        def discriminator(self, real, fake):
            assert real.features[0].shape == fake.features[0].shape == (len(real.images), 5)
            assert not torch.equal(real.features[0], fake.features[0])
            return super().discriminator(real, fake)

    generator = nn.Sequential(nn.Linear(100, 16), nn.Unflatten(1, (1, 4, 4)))
    for joined in (True, False):
        gan = GAN(generator, Rich(), dataset(), Matching(), Options(duration="3 steps"), "cpu")
        assert gan.joined
        assert len(list(train(gan, joined=joined))) == 3


def test_the_generators_step_scores_real_images_only_for_a_loss_that_asks():
    def check(fake, real):
        assert real is None
        return -fake.logits.mean()

    gan = assembled()
    gan.objective = type(
        "Checking", (Hinge,), {"name": "checking", "generator": lambda self, fake, real: check(fake, real)}
    )()
    list(train(gan))


class Balanced(nn.Module):
    """BEGAN's k in its simplest form: state that moves with every step of the discriminator."""

    needs_real = False

    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.zeros(()))

    def discriminator(self, real, fake):
        self.k += 0.25
        return fake.logits.mean() - real.logits.mean() + self.k * 0

    def generator(self, fake, real):
        return -fake.logits.mean()


class Balancing(StatefulLoss):
    """The component that builds it."""

    name = "balancing"

    def build(self):
        return Balanced()


def test_the_state_of_a_loss_is_saved_with_the_run():
    generator = nn.Sequential(nn.Linear(100, 16), nn.Unflatten(1, (1, 4, 4)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    gan = GAN(generator, discriminator, dataset(), Balancing().build(), Options(duration="3 steps"), "cpu")
    assert gan.tensors()["loss.k"] == 0  # the rehearsal used a copy
    list(train(gan))
    assert gan.tensors()["loss.k"] == 0.75


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("fakes", ["shared", "fresh"])
def test_shared_fakes_serve_both_steps_and_fresh_ones_do_not(fakes, updates):
    seen = {"discriminator": [], "generator": []}

    class Watching(Hinge):
        name = "watching"

        def discriminator(self, real, fake):
            assert not fake.images.requires_grad
            seen["discriminator"].append(fake.latent)
            return super().discriminator(real, fake)

        def generator(self, fake, real):
            seen["generator"].append(fake.latent)
            return super().generator(fake, real)

    gan = assembled(training={"fakes": fakes, "discriminator_steps": updates})
    gan.objective = Watching()
    for _ in train(gan):
        assert torch.equal(seen["discriminator"][-1], seen["generator"][-1]) is (fakes == "shared")
    assert len(seen["discriminator"]) == updates * len(seen["generator"]) == updates * 6


@given(half_life=st.floats(0.001, 10), images=st.integers(1, 2000))
def test_the_average_halves_a_weights_share_every_half_life(half_life, images):
    average, module = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.ones_(average.weight)
    nn.init.zeros_(module.weight)
    update_average(average, module, EMASettings(half_life_kimg=half_life), 0, images)
    torch.testing.assert_close(average.weight.item(), 0.5 ** (images / (1000 * half_life)), rtol=1e-4, atol=1e-6)


def test_the_average_follows_the_generator_and_copies_its_buffers():
    gan = assembled(generator={"name": "mlp", "normalization": "batch"}, ema={"half_life_kimg": 0.004})
    for _ in train(gan):
        pass
    assert gan.sampler() is gan.ema
    assert not gan.ema.training
    assert not any(parameter.requires_grad for parameter in gan.ema.parameters())
    for (name, kept), current in zip(gan.ema.named_buffers(), gan.generator.buffers(), strict=True):
        assert torch.equal(kept, current), name
    assert not torch.equal(gan.ema[0].weight, gan.generator[0].weight)


def test_a_scheduled_learning_rate_follows_the_images_seen():
    schedule = {"from": 0.1, "to": 0.0, "kimg": 0.02, "shape": "linear"}
    gan = assembled(optimizer={"generator": {"lr": schedule, "betas": [{"from": 0.0, "to": 0.5, "kimg": 0.02}, 0.99]}})
    group = gan.optimizers["generator"].param_groups[0]
    before = 0
    for step in train(gan):
        assert group["lr"] == pytest.approx(0.1 * max(0, 1 - before / 20))
        assert group["betas"] == (pytest.approx(0.5 * min(1, before / 20)), 0.99)
        before = step.images_seen


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax", "Adagrad", "Adadelta", "NAdam", "RAdam", "RMSprop", "SGD"])
def test_every_optimizer_trains_and_comes_back_from_its_tensors(name):
    choice = {"optimizer": {"generator": {"name": name}, "discriminator": {"name": name}}}
    gan = assembled(choice)
    steps = train(gan)
    for _ in range(3):
        next(steps)
    again = assembled(choice)
    again.restore(weights(gan), gan.place())
    list(steps)
    list(train(again))
    assert equal(weights(gan), weights(again))


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(100, 16)

    def forward(self, latent):
        return self.layer(latent).detach().unflatten(1, (1, 4, 4))


GOOD_GENERATOR = nn.Sequential(nn.Linear(100, 16), nn.Unflatten(1, (1, 4, 4)))
GOOD_DISCRIMINATOR = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))


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
def test_networks_that_do_not_fit_are_told_before_the_first_step(generator, discriminator, words):
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
def test_a_loss_that_breaks_its_promise_is_told_before_the_first_step(body, words):
    broken = type("Broken", (Hinge,), {"name": "broken", "generator": lambda self, fake, real: body(fake)})()
    with pytest.raises(PluginError, match=words):
        GAN(GOOD_GENERATOR, GOOD_DISCRIMINATOR, dataset(), broken, device="cpu")


def test_a_run_can_be_put_back_twice_from_one_checkpoint():
    gan = assembled()
    steps = train(gan)
    for _ in range(3):
        next(steps)
    saved, place = weights(gan), gan.place()
    kept = {name: value.clone() for name, value in saved.items()}
    first, second = assembled(), assembled()
    first.restore(saved, place)
    list(train(first))
    assert equal(saved, kept)  # training changed a copy
    second.restore(saved, place)
    list(train(second))
    assert equal(weights(first), weights(second))


def without(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("random.noise"), "lacks.*random.noise"),
        (without("generator.0.weight"), "another generator"),
        (lambda tensors: tensors.update({"ema.0.weight": torch.zeros(2)}), "holds.*ema"),
        (lambda tensors: tensors.update({"optimizer.generator.exp_avg.9.weight": torch.zeros(2)}), "exp_avg.9.weight"),
        (lambda tensors: tensors.update({"optimizer.generator.exp_avg.0.weight": torch.zeros(1)}), r"shape \(1,\)"),
    ],
)
def test_what_does_not_fit_is_never_put_back(damage, words):
    gan = assembled()
    next(train(gan))
    tensors = weights(gan)
    damage(tensors)
    with pytest.raises(CheckpointError, match=words):
        assembled().restore(tensors, gan.place())
    with pytest.raises(CheckpointError, match="place"):
        assembled().restore(weights(gan), {"step": 3})


def test_the_consumers_grad_mode_is_no_matter_of_the_runs():
    expected, _ = trained(assembled())
    gan = assembled()
    with torch.no_grad():
        for _ in train(gan):
            assert not torch.is_grad_enabled()
    assert equal(weights(gan), expected)


def test_a_step_that_fails_is_not_half_counted():
    class Failing(Hinge):
        name = "failing"

        def generator(self, fake, real):
            raise KeyError("no generator's step today")

    gan = assembled()
    gan.objective = Failing()
    with pytest.raises(PluginError, match="the loss failed: KeyError"):
        next(train(gan))
    assert gan.place() == {"step": 0, "images_seen": 0, "seconds": 0.0}


def test_what_a_dataset_draws_while_it_is_built_depends_on_the_seed_alone():
    class Drawn(Noise):
        name = "drawn"

        def build(self, root):
            return TensorDataset(torch.randn(10, 2), torch.zeros(10).long())

    parts = {"generator": TinyGenerator(), "discriminator": TinyDiscriminator(), "loss": Hinge(), "dataset": Drawn()}
    first, again, other = (
        next(GAN.assemble(Run(**parts, seed=seed), Path(), "cpu").feed.batches(0)).images for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first.sort(0).values, other.sort(0).values)


@pytest.mark.parametrize("part", ["generator", "discriminator", "loss", "dataset"])
def test_a_part_that_cannot_be_built_is_named(part):
    def fail(self, *arguments):
        raise ValueError("not today")

    base = {"generator": TinyGenerator, "discriminator": TinyDiscriminator, "loss": Hinge, "dataset": Noise}
    parts = {key: cls() for key, cls in base.items()}
    parts[part] = type("Broken", (base[part],), {"name": "broken", "build": fail})()
    with pytest.raises(PluginError, match=f"the {part} 'broken' failed: ValueError: not today"):
        GAN.assemble(Run(**parts), Path(), "cpu")


def test_a_last_batch_that_a_network_cannot_take_is_told_before_the_first_step():
    generator = {"name": "mlp", "normalization": "batch"}
    with pytest.raises(ConfigError, match=r"batch_size 3 leaves a last batch of 1 of 10 images.*generator failed"):
        assembled(generator=generator, batch_size=3)
    with pytest.raises(ConfigError, match=r"last batch of 1.*discriminator failed"):
        assembled(discriminator={"name": "tiny", "batch_norm": True}, batch_size=9)
    assert assembled(generator=generator, batch_size=4).feed.size == 10


class Speaking(nn.Module):
    """A discriminator whose output is made by a function of its hidden layer (N, 5) and its logits (N, 1)."""

    def __init__(self, speak):
        super().__init__()
        self.first, self.norm, self.last = (
            nn.Linear(16, 5),
            nn.BatchNorm1d(5, track_running_stats=False),
            nn.Linear(5, 1),
        )
        self.speak = speak

    def forward(self, images):
        hidden = self.first(images.flatten(1))
        return self.speak(self, hidden, self.last(hidden))


@pytest.mark.parametrize(
    ("speak", "words"),
    [
        (lambda d, hidden, logits: logits[:4], "N = 8"),
        (lambda d, hidden, logits: Output(logits, (hidden.mean(0),)), r"features\[0\].*begin with N"),
        (lambda d, hidden, logits: Output(logits, (), {"code": hidden[0]}), "heads.*begin with N"),
        (lambda d, hidden, logits: Output(hidden.sum()), "logits"),
    ],
)
def test_a_discriminator_that_breaks_its_promise_is_told_before_the_first_step(speak, words):
    with pytest.raises(PluginError, match=words):
        GAN(GOOD_GENERATOR, Speaking(speak), dataset(), Hinge(), device="cpu")


def test_features_that_mix_samples_are_found_out_too():
    plain = Speaking(lambda d, hidden, logits: Output(logits, (hidden,)))
    mixing = Speaking(lambda d, hidden, logits: Output(logits, (d.norm(hidden),)))
    assert GAN(GOOD_GENERATOR, plain, dataset(), Hinge(), device="cpu").joined
    assert not GAN(GOOD_GENERATOR, mixing, dataset(), Hinge(), device="cpu").joined


def test_a_discriminator_whose_buffers_move_with_every_pass_sees_real_and_fake_apart():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(16, 5))
    normed = nn.Sequential(nn.Flatten(), layer, nn.Linear(5, 1))
    assert not GAN(GOOD_GENERATOR, normed, dataset(), Hinge(), device="cpu").joined


def test_state_that_cannot_be_saved_is_told_before_the_first_step():
    class Secretive(nn.Sequential):
        def get_extra_state(self):
            return "a secret"

        def set_extra_state(self, state):
            pass

    secretive = Secretive(nn.Flatten(), nn.Linear(16, 1))
    with pytest.raises(PluginError, match="must be tensors"):
        GAN(GOOD_GENERATOR, secretive, dataset(), Hinge(), device="cpu")


def test_what_is_no_module_is_told():
    with pytest.raises(PluginError, match=r"a generator must be an nn\.Module; received NoneType"):
        GAN(None, GOOD_DISCRIMINATOR, dataset(), Hinge(), device="cpu")
