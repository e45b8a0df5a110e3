"""Averages of the generator's weights: their half-lives, and how one of several is chosen."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from gancore.config.run import EMASettings
from gancore.errors import ConfigError
from gancore.settings import START, TrainingTime
from gancore.training.ema import Averages, is_average, role_of, roles_of, step_sizes

HALF_LIVES = st.floats(0.001, 100)
SCHEDULE = {"from": 1.0, "to": 2.0}


def shares(settings, time, images):
    """Return the share of the first weight, 1, in each average after one update toward 0."""
    module = nn.Linear(1, 1)
    nn.init.ones_(module.weight)
    averages = Averages(module, tuple(roles_of(settings)))
    nn.init.zeros_(module.weight)
    averages.move(step_sizes(settings, time, images))
    return torch.stack([average.weight.detach() for average in averages.modules.values()]).flatten().double()


@given(half_lives=st.lists(HALF_LIVES, min_size=1, max_size=4, unique=True), images=st.integers(1, 2000))
@settings(max_examples=30)
def test_ema_halves_the_share_of_old_weights_every_half_life(half_lives, images):
    ema = EMASettings(half_life_kimg=half_lives[0], more_kimg=half_lives[1:])
    expected = torch.tensor([0.5 ** (images / (1000 * half_life)) for half_life in half_lives], dtype=torch.float64)
    torch.testing.assert_close(shares(ema, START, images), expected, rtol=1e-4, atol=1e-6)


@given(ramp_up=st.floats(0.01, 1), seen=st.integers(1, 10_000))
@settings(max_examples=30)
def test_ema_ramp_up_shortens_all_half_lives_at_the_start(ramp_up, seen):
    ema = EMASettings(half_life_kimg=1.0, more_kimg=(4.0,), ramp_up=ramp_up)
    expected = torch.tensor([0.5 ** (100 / min(most, ramp_up * seen)) for most in (1000, 4000)], dtype=torch.float64)
    torch.testing.assert_close(shares(ema, TrainingTime(seen, 0.0), 100), expected, rtol=1e-4, atol=1e-6)


@given(half_lives=st.lists(HALF_LIVES, max_size=4, unique=True), weights=st.lists(st.floats(0, 1), max_size=5))
@settings(max_examples=20)
def test_ema_of_constant_weights_is_these_weights(half_lives, weights):
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    averages = Averages(module, tuple(f"ema_{number}" for number in range(len(half_lives) + 1)))
    for weight in weights:
        averages.move([weight] * (len(half_lives) + 1))
    for average in averages.modules.values():
        for name, value in module.state_dict().items():
            torch.testing.assert_close(average.state_dict()[name], value)


@given(half_lives=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=5, unique=True))
@settings(max_examples=50)
def test_ema_roles_are_words_without_dots_that_find_their_half_life(half_lives):
    ema = EMASettings(half_life_kimg=half_lives[0], more_kimg=half_lives[1:])
    roles = roles_of(ema)
    assert list(roles.values()) == half_lives
    assert not any("." in role for role in roles)
    assert all(map(is_average, roles))
    assert [role_of(ema, kimg) for kimg in half_lives] == list(roles)


@pytest.mark.parametrize(
    ("ema", "kimg", "problem"),
    [
        (None, 2.0, "the run keeps no average of its weights"),
        (EMASettings(more_kimg=(0.5, 50.0)), 7.0, "half-life of 7 kimg; it keeps 0.5, 10, 50\n"),
        (EMASettings(half_life_kimg=SCHEDULE, more_kimg=(3.0,)), 1.0, "it keeps 3; the one whose half-life is a sched"),
        (EMASettings(half_life_kimg=SCHEDULE), 1.0, "the half-life of the run's only average .EMA. is a schedule"),
    ],
)
def test_half_life_that_a_run_does_not_keep_is_refused_with_those_that_it_keeps(ema, kimg, problem):
    with pytest.raises(ConfigError, match=problem):
        role_of(ema, kimg)


@pytest.mark.parametrize("more", [[10.0], [2.0, 2.0], [0.0], [-1.0], [float("inf")], [float("nan")]])
def test_half_lives_must_be_positive_and_different(more):
    with pytest.raises(ValidationError, match="more_kimg"):
        EMASettings(half_life_kimg=10.0, more_kimg=more)
