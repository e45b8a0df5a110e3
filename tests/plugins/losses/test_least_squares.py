import pytest
from hypothesis import given

from gancore_plugins.losses.least_squares import LeastSquares
from helpers.loss_inputs import gradient, logits, mean, scores

CONVENTIONS = {"binary": (0, 1, 1), "pearson": (-1, 1, 0)}


@given(real=logits, fake=logits)
@pytest.mark.parametrize("targets", CONVENTIONS)
def test_lsgan_losses_equal_the_formulas(targets, real, fake):
    loss, (false, true, wanted) = LeastSquares(targets=targets), CONVENTIONS[targets]
    expected = (mean([(value - true) ** 2 for value in real]) + mean([(value - false) ** 2 for value in fake])) / 2
    assert loss.discriminator(scores(real), scores(fake)).item() == pytest.approx(expected, abs=1e-12)
    expected = mean([(value - wanted) ** 2 for value in fake]) / 2
    assert loss.generator(scores(fake), None).item() == pytest.approx(expected, abs=1e-12)


@given(fake=logits)
@pytest.mark.parametrize("targets", CONVENTIONS)
def test_lsgan_generator_gradient_is_the_distance_from_its_target(targets, fake):
    batch = scores(fake)
    (found,) = gradient(LeastSquares(targets=targets).generator(batch, None), batch)
    assert found == pytest.approx([(value - CONVENTIONS[targets][2]) / len(fake) for value in fake], abs=1e-12)
