import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore_plugins.losses.linear import Hinge, Wasserstein
from helpers.loss_inputs import gradient, logits, mean, scores


@given(real=logits, fake=logits)
def test_wasserstein_and_hinge_losses_equal_the_formulas(real, fake):
    found = Wasserstein().discriminator(scores(real), scores(fake)).item()
    assert found == pytest.approx(mean(fake) - mean(real), abs=1e-9)
    found = Hinge().discriminator(scores(real), scores(fake)).item()
    expected = mean([max(0, 1 - value) for value in real]) + mean([max(0, 1 + value) for value in fake])
    assert found == pytest.approx(expected, abs=1e-9)
    for loss in (Wasserstein(), Hinge()):
        assert loss.generator(scores(fake), None).item() == pytest.approx(-mean(fake), abs=1e-9)


@given(real=logits, fake=logits, shift=st.floats(-10, 10))
def test_wasserstein_loss_depends_only_on_the_difference_of_means(real, fake, shift):
    shifted = [[value + shift for value in values] for values in (real, fake)]
    before, after = (Wasserstein().discriminator(*map(scores, pair)).item() for pair in ((real, fake), shifted))
    assert before == pytest.approx(after, abs=1e-9)


@given(real=st.lists(st.floats(1.01, 30), min_size=1), fake=st.lists(st.floats(-30, -1.01), min_size=1))
def test_hinge_loss_and_gradient_are_zero_beyond_the_margin(real, fake):
    first, second = scores(real), scores(fake)
    loss = Hinge().discriminator(first, second)
    assert loss.item() == 0
    assert not any(any(each) for each in gradient(loss, first, second))


@given(real=logits, fake=logits)
def test_hinge_loss_is_not_negative(real, fake):
    assert Hinge().discriminator(scores(real), scores(fake)).item() >= 0
