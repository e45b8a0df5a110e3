"""Components that use extras, heads and the networks themselves are really tried, or reported as not tried."""

import math

import broken_components as broken
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss, softplus

from gancore import testing as laws
from gancore.contracts import Discriminator, Generated, Generator, Regularizer
from gancore.testing import Case, check_law, laws_of
from gancore.testing.cases import OwnCases


class TwoWay(Generator):
    """A decoder and an encoder, as in BiGAN."""

    name = "two-way"

    def build(self, spec):
        return TwoWayNetwork(spec)


class TwoWayNetwork(nn.Module):
    def __init__(self, spec):
        super().__init__()
        size = math.prod(spec.shape)
        last = [nn.Tanh()] if spec.bounded else []
        self.decoder = nn.Sequential(nn.Linear(spec.latent_dim, size), *last, nn.Unflatten(1, spec.shape))
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, spec.latent_dim))

    def forward(self, latent):
        return Generated(self.decoder(latent), {"latent": latent})

    def encode(self, images):
        return {"latent": self.encoder(images)}


class Joint(Discriminator):
    """A discriminator of images with their latents."""

    name = "joint"

    def build(self, spec):
        return JointNetwork(math.prod(spec.shape) + self.width(spec))

    def width(self, spec):
        return spec.latent_dim


class JointNetwork(nn.Module):
    extra_inputs = ("latent",)

    def __init__(self, inputs):
        super().__init__()
        self.layer = nn.Linear(inputs, 1)

    def forward(self, images, latent):
        return self.layer(torch.cat([images.flatten(1), latent], dim=1))


class Intermediate(Joint):
    """A discriminator of an intermediate latent, of 50 numbers for any Z."""

    name = "intermediate"

    def width(self, spec):
        return 50


class EncodeInTheLoss(broken.CorrectLoss):
    needs_real = True

    def generator(self, fake, real):
        mean, logvar = fake.players.encode(real.images, real.condition).values()
        again = fake.players.generate(mean + logvar.exp() * torch.randn_like(mean), real.condition)
        seen = fake.players.score(again.images, real.condition)
        return super().generator(fake, real) + softplus(-seen.logits).mean() + mse_loss(again.images, real.images)


class PathLength(Regularizer):
    name = "path-length"
    player = "generator"

    def penalty(self, real, fake):
        (gradient,) = torch.autograd.grad(fake.images.sum(), fake.extras["style"], create_graph=True)
        return (gradient.square().sum(dim=1) - 1).square().mean()


class Consistency(Regularizer):
    name = "consistency"

    def penalty(self, real, fake):
        near = fake.players.generate(fake.latent + 0.1, fake.condition).images
        return (fake.logits - fake.players.score(near, fake.condition).logits).square().mean()


class ReadsAHead(broken.CorrectLoss):
    def generator(self, fake, real):
        return super().generator(fake, real) + mse_loss(fake.heads["code"], fake.latent[:, :1])


def outcomes(component, own=None):
    return {law.__name__: check_law(component, law, 4, *([own] if own else [])) for law in laws_of(component)}


@pytest.mark.parametrize("component", [TwoWay, Joint, PathLength, Consistency], ids=lambda component: component.name)
def test_extras_and_players_are_tried_without_cases_of_the_author(component):
    found = outcomes(component)
    assert not [result for result in found.values() if result.outcome in ("broken", "not tried")]
    assert found["errors_are_config_or_data_errors"].cases


@pytest.mark.parametrize(
    ("component", "law", "needs", "case"),
    [
        (Intermediate, laws.output_has_the_promised_shape, "extras={'latent': ...}", Case(extras={"latent": (50,)})),
        (EncodeInTheLoss, laws.losses_are_finite_scalars, "extras={...}", Case(extras={"mean": (1,), "logvar": (1,)})),
    ],
)
def test_unknown_shapes_are_not_tried_unless_a_case_has_them(component, law, needs, case):
    result = check_law(component, law, 4)
    assert (result.outcome, result.cases) == ("not tried", 0)
    assert result.reason.startswith(f"it needs a case of your own with {needs}, in place of a guessed shape")
    result = check_law(component, law, 4, OwnCases(cases=(case,)))
    assert (result.outcome, result.cases) == ("held", 1)


def test_heads_that_a_case_names_have_its_shape():
    laws.losses_are_finite_scalars(ReadsAHead(), Case(heads={"code": (1,)}))
    laws.loss_gradient_reaches_the_scores(ReadsAHead(), Case(heads={"code": (1,)}))


def test_encoder_without_gradient_is_detected():
    class Detaching(TwoWayNetwork):
        def encode(self, images):
            return {"latent": self.encoder(images).detach()}

    class DetachedEncoder(TwoWay):
        def build(self, spec):
            return Detaching(spec)

    with pytest.raises(laws.LawBroken, match=r"encoder\.1\.weight gets no gradient"):
        laws.gradient_reaches_every_parameter(DetachedEncoder(), Case())
