import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import PluginError
from gancore_plugins.losses.relativistic import Relativistic, RelativisticAverage
from helpers.loss_inputs import gradient, logits, mean, pairs, scores, sigmoid, softplus

# torch's softplus is linear from 20 on, which is right to within 3e-9.

BOTH = [Relativistic(), RelativisticAverage()]


@given(pairs())
def test_relativistic_loss_depends_on_the_difference_of_pairs(pair):
    real, fake = pair
    found = Relativistic().discriminator(scores(real), scores(fake)).item()
    assert found == pytest.approx(mean([softplus(f - r) for r, f in zip(real, fake, strict=True)]), abs=1e-8)
    found = Relativistic().generator(scores(fake), scores(real)).item()
    assert found == pytest.approx(mean([softplus(r - f) for r, f in zip(real, fake, strict=True)]), abs=1e-8)


@given(real=logits, fake=logits)
def test_relativistic_average_losses_equal_the_formulas(real, fake):
    above, below = [value - mean(fake) for value in real], [value - mean(real) for value in fake]
    found = RelativisticAverage().discriminator(scores(real), scores(fake)).item()
    expected = (mean([softplus(-value) for value in above]) + mean([softplus(value) for value in below])) / 2
    assert found == pytest.approx(expected, abs=1e-8)
    found = RelativisticAverage().generator(scores(fake), scores(real)).item()
    expected = (mean([softplus(value) for value in above]) + mean([softplus(-value) for value in below])) / 2
    assert found == pytest.approx(expected, abs=1e-8)


@given(pair=pairs(), shift=st.floats(-10, 10))
@pytest.mark.parametrize("loss", BOTH)
def test_relativistic_losses_do_not_change_with_a_common_shift(loss, pair, shift):
    shifted = [[value + shift for value in values] for values in pair]
    for score in (loss.discriminator, lambda real, fake: loss.generator(fake, real)):
        assert score(*map(scores, pair)).item() == pytest.approx(score(*map(scores, shifted)).item(), abs=1e-8)


@given(pairs())
def test_relativistic_generator_gradient_equals_the_formula(pair):
    real, fake = map(scores, pair)
    (found,) = gradient(Relativistic().generator(fake, real), fake)
    expected = [-sigmoid(r - f) / len(pair[0]) for r, f in zip(*pair, strict=True)]
    assert found == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("loss", BOTH)
def test_relativistic_losses_need_real_scores_in_the_generator_step(loss):
    assert loss.needs_real
    with pytest.raises(PluginError, match="needs the scores of real images"):
        loss.generator(scores([0.0]), None)
