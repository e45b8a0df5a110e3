from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import Scores
from gancore.errors import ConfigError
from gancore.settings import START, Schedule, TrainingTime
from gancore.training.gan import GAN
from gancore_plugins.regularizers.reconstruction import Reconstruction
from helpers.tiny_components import catalog

pixels = st.lists(st.floats(-1, 1), min_size=4, max_size=4)


def scored(made, target):
    """Scores of two images, whose heads have two pixels each."""
    heads = {name: torch.tensor(values).reshape(2, 1, 1, 2) for name, values in zip(HEADS, (made, target), strict=True)}
    heads["reconstruction"].requires_grad_()
    return Scores(images=torch.zeros(2, 1, 1, 2), logits=torch.zeros(2, 1), heads=heads)


HEADS = ("reconstruction", "target")
FAKE = Scores(images=torch.zeros(2, 1, 1, 2), logits=torch.zeros(2, 1))


@given(made=pixels, target=pixels)
def test_reconstruction_penalty_is_the_mean_error_of_real_images(made, target):
    errors = [one - other for one, other in zip(made, target, strict=True)]
    expected = {"absolute": [abs(each) for each in errors], "squared": [each**2 for each in errors]}
    for error, values in expected.items():
        found = Reconstruction(error=error).penalty(scored(made, target), FAKE)
        assert float(found.detach()) == pytest.approx(sum(values) / 4, abs=1e-6)


@given(made=pixels, target=pixels)
def test_reconstruction_gradient_leads_to_the_target(made, target):
    real = scored(made, target)
    (gradient,) = torch.autograd.grad(Reconstruction(error="squared").penalty(real, FAKE), real.heads["reconstruction"])
    torch.testing.assert_close(real.heads["reconstruction"] - 2 * gradient, real.heads["target"])


def test_reconstruction_weight_may_be_a_schedule():
    assert Reconstruction(weight=0.3).strength(START) == 0.3
    falling = Reconstruction(weight=Schedule(start=1.0, to=0.0, kimg=1.0))
    assert [falling.strength(TrainingTime(images, 0.0)) for images in (0, 500, 1000)] == [1, 0.5, 0]


@pytest.mark.parametrize(
    ("discriminator", "heads"),
    [({"name": "light", "width": 2}, "no heads"), ({"name": "subpixel", "patch": 2, "classifier": True}, "'classes'")],
)
def test_reconstruction_error_names_the_key_that_adds_the_heads(discriminator, heads):
    parts = {
        "generator": "mlp",
        "discriminator": discriminator,
        "loss": "bce",
        "dataset": "digits",
        "regularizers": {"reconstruction": {}},
        "training": {"conditional": True},
    }
    with pytest.raises(ConfigError, match=f"a head `reconstruction`; this one has {heads}") as refused:
        GAN.assemble(resolve([ConfigLayer("parts", parts)], catalog()), Path(), "cpu")
    assert "--set discriminator.reconstructs=true" in refused.value.hint
