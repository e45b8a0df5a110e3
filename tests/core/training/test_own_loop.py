"""Losses and penalties in a training loop of the user's own, against the same in plain torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

import gancore
from gancore import ConfigError, DataError, Generated, Loss, Output, PluginError, Regularizer, Schedule, Spec
from gancore.contracts import TrainingTime

SHAPE = (2, 5, 3)


def make_critic(seed, outputs=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 8), nn.Softplus(), nn.Linear(8, outputs)).double()


def batch(seed, count):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64) * 2 - 1


def bce(logits, target):
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


PLAIN = {
    "bce": (lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda r, f: bce(f, 1.0)),
    "hinge": (
        lambda r, f: torch.relu(1 - r).mean() + torch.relu(1 + f).mean(),
        lambda r, f: -f.mean(),
    ),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "relativistic": (lambda r, f: bce(r - f, 1.0), lambda r, f: bce(f - r, 1.0)),
    "relativistic-average": (
        lambda r, f: (softplus(f.mean(0) - r).mean() + softplus(f - r.mean(0)).mean()) / 2,
        lambda r, f: (softplus(r.mean(0) - f).mean() + softplus(r - f.mean(0)).mean()) / 2,
    ),
}
"""D's and G's loss of logits of real images and fakes, as textbooks write them."""


def gradients(value, parts):
    return torch.autograd.grad(value, parts, retain_graph=True)


def assert_equal(one, two, parts):
    """Assert that two losses and their gradients are equal to the accuracy of float64."""
    parts = list(parts)
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    for mine, plain in zip(gradients(one, parts), gradients(two, parts), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000), count=st.integers(1, 6), outputs=st.integers(1, 3))
def test_losses_equal_plain_torch(name, seed, count, outputs):
    loss, (plain_d, plain_g) = gancore.find("loss", name), PLAIN[name]
    critic, images, fakes = make_critic(seed, outputs), batch(seed, count), batch(seed + 1, count).requires_grad_()
    real, fake = gancore.score(critic, images), gancore.score(critic, fakes)
    assert_equal(loss.discriminator(real, fake), plain_d(critic(images), critic(fakes)), critic.parameters())
    assert_equal(loss.generator(fake, real), plain_g(critic(images), critic(fakes)), [fakes])


def gradient_at(critic, points):
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return gradient.flatten(1)


def norm_of(gradient):
    return (gradient.pow(2).sum(1) + 1e-12).sqrt()  # as the authors of DRAGAN do, or a flat critic has no gradient


def plain_r1(critic, images, fakes):
    return 5.0 / 2 * gradient_at(critic, images).pow(2).sum(1).mean()


def plain_r2(critic, images, fakes):
    return 5.0 / 2 * gradient_at(critic, fakes).pow(2).sum(1).mean()


def plain_wgan_gp(critic, images, fakes):
    share = torch.rand(len(images), 1, 1, 1, dtype=images.dtype)
    between = (share * images + (1 - share) * fakes).detach().requires_grad_()
    return 10.0 * (norm_of(gradient_at(critic, between)) - 1).pow(2).mean()


def plain_dragan(critic, images, fakes):
    noise = 0.5 * images.std(correction=0) * torch.rand_like(images)
    share = torch.rand(len(images), 1, 1, 1, dtype=images.dtype)
    around = (images + share * noise).detach().requires_grad_()
    return 10.0 * (norm_of(gradient_at(critic, around)) - 1).pow(2).mean()


PENALTIES = {
    "r1": (plain_r1, {"gamma": 5.0}),
    "r2": (plain_r2, {"gamma": 5.0}),
    "wgan-gp": (plain_wgan_gp, {}),
    "dragan": (plain_dragan, {}),
}


@pytest.mark.parametrize("name", PENALTIES)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000), count=st.integers(2, 6))
def test_penalties_equal_plain_torch(name, seed, count):
    plain, fields = PENALTIES[name]
    regularizer = gancore.find("regularizer", name, **fields)
    critic, images, fakes = (
        make_critic(seed),
        batch(seed, count).requires_grad_(),
        batch(seed + 1, count).requires_grad_(),
    )
    real, fake = gancore.score(critic, images), gancore.score(critic, fakes)
    torch.manual_seed(seed)
    mine = gancore.penalty(regularizer, real, fake)
    torch.manual_seed(seed)
    assert_equal(
        mine, plain(critic, images, fakes), list(critic.parameters())[:-1]
    )  # no penalty depends on the last bias


def test_loop_with_relativistic_loss_and_r1_equals_plain_torch():
    def trained(d_loss, g_loss):
        torch.manual_seed(0)
        generator, critic = nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Unflatten(1, SHAPE)).double(), make_critic(0)
        g_optimizer, d_optimizer = (torch.optim.Adam(part.parameters(), lr=0.01) for part in (generator, critic))
        for number in range(5):
            images, latent = batch(number, 6).requires_grad_(), torch.randn(6, 4, dtype=torch.float64)
            d_optimizer.zero_grad()
            d_loss(critic, images, generator(latent).detach()).backward()
            d_optimizer.step()
            g_optimizer.zero_grad()
            g_loss(critic, images, generator(latent)).backward()
            g_optimizer.step()
        return [*generator.state_dict().values(), *critic.state_dict().values()]

    loss, r1 = gancore.find("loss", "relativistic"), gancore.find("regularizer", "r1", gamma=5.0)

    def d_loss(critic, images, fakes):
        real, fake = gancore.score(critic, images), gancore.score(critic, fakes)
        return loss.discriminator(real, fake) + gancore.penalty(r1, real, fake)

    mine = trained(d_loss, lambda critic, x, f: loss.generator(gancore.score(critic, f), gancore.score(critic, x)))
    plain = trained(
        lambda critic, x, f: bce(critic(x) - critic(f), 1.0) + plain_r1(critic, x, f),
        lambda critic, x, f: bce(critic(f) - critic(x), 1.0),
    )
    for one, two in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_penalty_is_times_strength_and_interval():
    critic, images = make_critic(0), batch(0, 4).requires_grad_()
    real, fake = gancore.score(critic, images), gancore.score(critic, batch(1, 4))
    one = gancore.penalty(gancore.find("regularizer", "r1", gamma=1), real, fake)
    lazy = gancore.penalty(gancore.find("regularizer", "r1", gamma=3, interval=16), real, fake)
    torch.testing.assert_close(lazy, 48 * one)
    assert gancore.penalty(gancore.find("regularizer", "r1", gamma=0), real, fake) == 0


def test_penalty_of_a_schedule_that_returns_to_its_start_needs_the_time():
    up_and_down = Schedule(start=0.0, to=1.0, kimg=1).then(0.0)
    critic, images = make_critic(0), batch(0, 4).requires_grad_()
    real, fake = gancore.score(critic, images), gancore.score(critic, batch(1, 4))
    with pytest.raises(ConfigError, match="changes during a run, so it needs a time"):
        gancore.penalty(gancore.find("regularizer", "r1", gamma=up_and_down), real, fake)


def test_penalty_of_a_schedule_needs_the_time():
    critic, images = make_critic(0), batch(0, 4).requires_grad_()
    real, fake = gancore.score(critic, images), gancore.score(critic, batch(1, 4))
    r1 = gancore.find("regularizer", "r1", gamma=Schedule(start=2, to=0))
    with pytest.raises(ConfigError, match="changes during a run") as caught:
        gancore.penalty(r1, real, fake)
    assert "time=gancore.TrainingTime" in caught.value.hint
    half = gancore.penalty(r1, real, fake, time=TrainingTime(0, 0.5))
    torch.testing.assert_close(half, gancore.penalty(gancore.find("regularizer", "r1", gamma=1), real, fake))


@pytest.mark.parametrize(("name", "which"), [("r1", "real"), ("r2", "fake")])
def test_penalty_without_leaves_says_what_to_call(name, which):
    critic = make_critic(0)
    real, fake = gancore.score(critic, batch(0, 4)), gancore.score(critic, batch(1, 4))
    with pytest.raises(ConfigError, match=f"respect to the {which} images") as caught:
        gancore.penalty(gancore.find("regularizer", name), real, fake)
    assert "images.requires_grad_()" in caught.value.hint


def test_penalty_of_weight_clipping_says_what_to_call():
    critic = make_critic(0)
    real, fake = gancore.score(critic, batch(0, 4)), gancore.score(critic, batch(1, 4))
    clipping = gancore.find("regularizer", "weight-clipping")
    with pytest.raises(ConfigError, match="changes the weights after an update") as caught:
        gancore.penalty(clipping, real, fake)
    assert "regularizer.project(network, 0.01)" in caught.value.hint
    clipping.project(critic, 0.01)
    assert all(weight.abs().le(0.01).all() for weight in critic.parameters())


class Built(Regularizer):
    """A regularizer with state."""

    name = "built"

    def build(self, spec):
        return Counter()


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def penalty(self, real, fake):
        self.calls += 1
        return real.logits.square().mean()


def test_penalty_of_a_regularizer_with_state_needs_what_it_built():
    real, fake = gancore.score(make_critic(0), batch(0, 4)), gancore.score(make_critic(0), batch(1, 4))
    with pytest.raises(ConfigError, match="built once") as caught:
        gancore.penalty(Built(), real, fake)
    assert "built=regularizer.build" in caught.value.hint
    built = Built().build(Spec(SHAPE))
    assert gancore.penalty(Built(), real, fake, built=built) == real.logits.square().mean()
    assert built.calls == 1


def test_penalty_under_no_grad_is_refused():
    class Zero(Regularizer):
        name = "zero"

        def penalty(self, real, fake):
            return real.logits.square().mean()

    with torch.no_grad():
        real, fake = gancore.score(make_critic(0), batch(0, 4)), gancore.score(make_critic(0), batch(1, 4))
    with pytest.raises(ConfigError, match="without a gradient") as caught:
        gancore.penalty(Zero(), real, fake)
    assert "torch.no_grad" in caught.value.hint


class OwnQ(Loss):
    """InfoGAN: Q, a network of the loss, recovers the latent from the images."""

    name = "own-q"

    def build(self, spec):
        return Q(spec)


class Q(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(30, spec.latent_dim)).double()

    def discriminator(self, real, fake):
        return softplus(fake.logits - real.logits).mean() + self.recover(fake)

    def generator(self, fake, real):
        return softplus(-fake.logits).mean() + self.recover(fake)

    def recover(self, fake):
        return (self.net(fake.images) - fake.latent).square().mean()


def test_loss_with_parameters_is_trained_by_the_optimizer_of_the_user():
    objective, critic = OwnQ().build(Spec(SHAPE, latent_dim=4)), make_critic(0)
    optimizer = torch.optim.SGD([*critic.parameters(), *objective.parameters()], lr=0.1)
    latent, losses = batch(0, 8).flatten(1)[:, :4], []
    for _ in range(50):
        optimizer.zero_grad()
        fake = gancore.score(critic, batch(0, 8), latent=latent)
        objective.discriminator(gancore.score(critic, batch(1, 8)), fake).backward()
        optimizer.step()
        losses.append(objective.recover(fake).item())
    assert losses[-1] < losses[0] / 4


def test_score_passes_condition_extras_and_augmentation_to_the_discriminator():
    class D(nn.Module):
        extra_inputs = ("code",)

        def forward(self, images, condition, code):
            return Output((images.flatten(1) @ torch.ones(30, 1)) + condition[:, None] + code, heads={"code": code})

    images, condition, code = torch.ones(3, *SHAPE), torch.arange(3), torch.full((3, 1), 0.5)
    scores = gancore.score(D(), Generated(images, {"code": code}), condition, augment=lambda images: images * 2)
    assert scores.logits.flatten().tolist() == [60.5, 61.5, 62.5]
    assert torch.equal(scores.images, images)
    assert torch.equal(scores.heads["code"], code)
    again = scores.players.score(images, condition, {"code": code})
    assert torch.equal(again.logits, scores.logits)


def test_score_of_players_needs_the_generator():
    generator = nn.Linear(4, 30)
    scores = gancore.score(make_critic(0), batch(0, 2), generator=generator)
    assert scores.players.generate(torch.ones(1, 4)).images.shape == (1, 30)
    assert scores.players.generator is generator
    with pytest.raises(ConfigError, match="uses the generator") as caught:
        gancore.score(make_critic(0), batch(0, 2)).players.generate(torch.ones(1, 4))
    assert "generator=G" in caught.value.hint


def test_score_is_float32_under_autocast():
    critic = make_critic(0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = gancore.score(critic, batch(0, 4).float())
        assert critic(batch(0, 4).float()).dtype == torch.bfloat16
    assert scores.logits.dtype == torch.float32


WRONG_INPUTS = {
    "numpy": (lambda: (make_critic(0), batch(0, 2).numpy()), DataError, "received ndarray", "torch.from_numpy"),
    "uint8": (lambda: (make_critic(0), batch(0, 2).byte()), DataError, "torch.uint8", "/ 127.5 - 1"),
    "number": (lambda: (make_critic(0), 3), DataError, "received int", "from_numpy"),
    "labels": (lambda: (make_critic(0), batch(0, 2), torch.zeros(3)), DataError, "begins with N = 2", "(N,)"),
    "label": (lambda: (make_critic(0), batch(0, 2), 1), DataError, "received int", "(N,)"),
    "class": (lambda: (nn.Linear, batch(0, 2)), ConfigError, "the class Linear", "Linear(...)"),
    "flat logits": (
        lambda: (lambda x: make_critic(0)(x)[:, 0], batch(0, 2)),
        PluginError,
        r"shape \(2,\)",
        ".unsqueeze(1)",
    ),
    "map": (lambda: (lambda x: make_critic(0)(x)[:, :, None], batch(0, 2)), PluginError, r"\(2, 1, 1\)", ".flatten(1)"),
    "pair": (lambda: (lambda x: (make_critic(0)(x), x), batch(0, 2)), PluginError, "received tuple", "gancore.Output"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_score_of_wrong_inputs_says_how_to_convert(case):
    arguments, error, message, hint = WRONG_INPUTS[case]
    with pytest.raises(error, match=message) as caught:
        gancore.score(*arguments())
    assert hint in caught.value.hint


def test_find_returns_components_by_name_and_fields():
    assert gancore.find("regularizer", "r1", gamma=2).gamma == 2
    assert gancore.find("metric", "fd-classifier").extractor.name == "classifier"
    assert gancore.find("metric", "fd", extractor="random").extractor.name == "random"
    assert gancore.find("dataset", "digits").name == "digits"


@pytest.mark.parametrize(
    ("arguments", "fields", "message"),
    [
        (("losses", "bce"), {}, "unknown kind 'losses'; did you mean 'loss'"),
        (("loss", "relativstic"), {}, "did you mean 'relativistic'"),
        (("regularizer", "r1"), {"gama": 1}, "unknown key 'gama'; did you mean 'gamma'"),
        (("regularizer", "r1"), {"gamma": "x"}, "gamma: .*must be .*number"),
    ],
)
def test_find_of_a_wrong_name_or_field_names_the_known_ones(arguments, fields, message):
    with pytest.raises(ConfigError, match=message):
        gancore.find(*arguments, **fields)
