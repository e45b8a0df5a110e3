"""Balanced consistency: what it compares, and how it is weighted."""

import pytest
import torch
from torch import nn

from gancore import score
from gancore.contracts import Spec
from gancore.errors import ConfigError
from gancore.settings import START
from gancore_plugins.augmentations.diffaugment import OPERATIONS
from gancore_plugins.regularizers.consistency import Consistency

SPEC = Spec((1, 8, 8))
REAL, FAKE = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_penalty_is_the_weighted_mean_square_of_what_the_operations_change():
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    scores = score(critic, REAL), score(critic, FAKE)
    found = {}
    for weights in ((1.0, 0.0), (0.0, 1.0), (3.0, 5.0)):
        torch.manual_seed(0)
        found[weights] = Consistency(weight_real=weights[0], weight_fake=weights[1]).penalty(*scores)
    torch.manual_seed(0)
    of_real = (critic(OPERATIONS["translation"](REAL)) - critic(REAL)).square().mean()
    of_fake = (critic(OPERATIONS["translation"](FAKE)) - critic(FAKE)).square().mean()
    torch.testing.assert_close(found[1.0, 0.0], of_real)
    torch.testing.assert_close(found[3.0, 5.0], 3 * of_real + 5 * of_fake)
    (gradient,) = torch.autograd.grad(found[0.0, 1.0], critic[1].weight)
    assert gradient.abs().max() > 0
    assert Consistency(weight_real=0.0, weight_fake=0.0).penalty(*scores) is None
    assert Consistency(weight=0.5).strength(START) == 0.5


def test_critic_that_ignores_the_changes_has_no_penalty():
    def mean_of_columns(images):  # mirroring does not change it
        return images.mean(dim=(1, 2, 3)).unsqueeze(1)

    scores = score(mean_of_columns, REAL), score(mean_of_columns, FAKE)
    assert Consistency(policy=("flip",)).build(Spec((1, 8, 8), mirrors=True)).penalty(*scores) < 1e-12


@pytest.mark.parametrize(
    ("regularizer", "spec", "problem"),
    [
        (Consistency(), Spec((2,)), r"the data has shape \(2,\)"),
        (Consistency(policy=("flip",)), SPEC, "flip needs data"),
        (Consistency(policy=("color",)), Spec((2, 8, 8)), "color needs images of 1, 3 or 4 channels"),
    ],
)
def test_data_that_the_operations_do_not_fit_is_refused(regularizer, spec, problem):
    with pytest.raises(ConfigError, match=problem):
        regularizer.build(spec)
