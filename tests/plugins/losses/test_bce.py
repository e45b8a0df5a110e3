import pytest
import torch
from hypothesis import given

from gancore.contracts import Scores
from gancore_plugins.losses.bce import Minimax, NonSaturating
from helpers.loss_inputs import gradient, logits, mean, scores, sigmoid, softplus


@given(real=logits, fake=logits)
@pytest.mark.parametrize("loss", [NonSaturating(), Minimax()])
def test_bce_discriminator_loss_equals_the_formula(loss, real, fake):
    found = loss.discriminator(scores(real), scores(fake))
    expected = mean([softplus(-value) for value in real]) + mean([softplus(value) for value in fake])
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(fake=logits)
def test_bce_generator_losses_equal_the_formulas(fake):
    assert NonSaturating().generator(scores(fake), None).item() == pytest.approx(
        mean([softplus(-value) for value in fake]), rel=1e-9, abs=1e-12
    )
    assert Minimax().generator(scores(fake), None).item() == pytest.approx(
        -mean([softplus(value) for value in fake]), rel=1e-9, abs=1e-12
    )


@given(real=logits, fake=logits)
def test_bce_gradients_equal_the_formulas(real, fake):
    first, second = scores(real), scores(fake)
    by_real, by_fake = gradient(NonSaturating().discriminator(first, second), first, second)
    assert by_real == pytest.approx([-sigmoid(-value) / len(real) for value in real], abs=1e-12)
    assert by_fake == pytest.approx([sigmoid(value) / len(fake) for value in fake], abs=1e-12)

    batch = scores(fake)
    (non_saturating,) = gradient(NonSaturating().generator(batch, None), batch)
    assert non_saturating == pytest.approx([-sigmoid(-value) / len(fake) for value in fake], abs=1e-12)
    batch = scores(fake)
    (saturating,) = gradient(Minimax().generator(batch, None), batch)
    assert saturating == pytest.approx([-sigmoid(value) / len(fake) for value in fake], abs=1e-12)


def test_minimax_gradient_vanishes_for_confident_d_and_the_non_saturating_one_does_not():
    batch = scores([-20.0])
    (saturating,) = gradient(Minimax().generator(batch, None), batch)
    batch = scores([-20.0])
    (non_saturating,) = gradient(NonSaturating().generator(batch, None), batch)
    assert abs(saturating[0]) < 1e-8
    assert non_saturating[0] == pytest.approx(-1, abs=1e-8)


@pytest.mark.parametrize("loss", [NonSaturating(), Minimax()])
@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_bce_of_large_logits_is_finite_in_single_precision(loss, value):
    batch = Scores(images=torch.zeros(1, 1), logits=torch.tensor([[value]], requires_grad=True))
    for found in (loss.discriminator(batch, batch), loss.generator(batch, None)):
        assert found.isfinite()
        assert found.dtype == torch.float32
