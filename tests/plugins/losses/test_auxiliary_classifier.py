import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.errors import ConfigError
from gancore.training.gan import GAN
from gancore_plugins.losses.auxiliary import AuxiliaryClassifier
from gancore_plugins.losses.bce import NonSaturating
from helpers.loss_inputs import gradient, mean, scores
from helpers.tiny_components import catalog

CLASSES = 3


@st.composite
def scores_with_classes(draw):
    """Scores of a few images, with a head `classes`."""
    values = draw(st.lists(st.floats(-30, 30), min_size=1, max_size=5))
    row = st.lists(st.floats(-30, 30), min_size=CLASSES, max_size=CLASSES)
    heads = torch.tensor([draw(row) for _ in values], dtype=torch.float64).requires_grad_()
    labels = torch.tensor([draw(st.integers(0, CLASSES - 1)) for _ in values])
    return replace(scores(values), condition=labels, heads={"classes": heads})


def class_loss(scores):
    """The mean cross-entropy, by its definition."""
    rows = zip(scores.heads["classes"].tolist(), scores.condition.tolist(), strict=True)
    return mean([math.log(sum(math.exp(each - row[label]) for each in row)) for row, label in rows])


@given(real=scores_with_classes(), fake=scores_with_classes(), weight=st.floats(0, 3))
def test_auxiliary_classifier_losses_equal_the_formulas(real, fake, weight):
    loss, plain = AuxiliaryClassifier(weight=weight), NonSaturating()
    expected = plain.discriminator(real, fake).item() + weight * (class_loss(real) + class_loss(fake))
    assert loss.discriminator(real, fake).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    expected = plain.generator(fake, None).item() + weight * class_loss(fake)
    assert loss.generator(fake, None).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(real=scores_with_classes(), fake=scores_with_classes())
def test_auxiliary_classifier_gradients_are_those_of_bce_and_cross_entropy(real, fake):
    loss = AuxiliaryClassifier(weight=0.5)
    found = gradient(loss.discriminator(real, fake), real, fake)
    assert found == gradient(NonSaturating().discriminator(real, fake), real, fake)
    (by_head,) = torch.autograd.grad(loss.generator(fake, None), fake.heads["classes"])
    expected = fake.heads["classes"].softmax(dim=1) - torch.nn.functional.one_hot(fake.condition, CLASSES)
    torch.testing.assert_close(by_head, 0.5 * expected / len(fake.condition))


def run(*layers):
    parts = {"generator": "mlp", "discriminator": "subpixel", "loss": "auxiliary-classifier", "dataset": "digits"}
    return GAN.assemble(
        resolve([ConfigLayer("parts", parts), *(ConfigLayer("more", each) for each in layers)], catalog()),
        Path(),
        "cpu",
    )


def test_auxiliary_classifier_error_names_what_it_needs():
    with pytest.raises(ConfigError, match="needs a conditional run") as refused:
        run()
    assert "--set training.conditional=true" in refused.value.hint
    with pytest.raises(ConfigError, match="a head `classes`; this one has no heads") as refused:
        run({"training": {"conditional": True}, "discriminator": {"patch": 2}})
    assert "--set discriminator.classifier=true" in refused.value.hint
