"""R1 and R2 from finite differences: their expectation is that of the exact penalties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from gancore import score
from gancore.contracts import Output
from gancore.errors import ConfigError
from gancore.settings import START
from gancore_plugins.regularizers.approximate import R1Approximate, R2Approximate
from gancore_plugins.regularizers.gradients import R1, R2


def pair(critic, real, fake):
    return score(critic, real.requires_grad_()), score(critic, fake.requires_grad_())


@given(seed=st.integers(0, 2**32 - 1), outputs=st.integers(1, 3), sigma=st.sampled_from([0.01, 0.3, 2.0]))
@settings(max_examples=8)
def test_penalty_of_a_linear_critic_is_near_half_the_square_of_its_weights(seed, outputs, sigma):
    torch.manual_seed(seed)
    critic = nn.Linear(4, outputs, dtype=torch.float64)
    real, fake = torch.randn(2, 4_000, 4, dtype=torch.float64)
    for approximate, exact in ((R1Approximate, R1), (R2Approximate, R2)):
        scores = pair(critic, real, fake)
        torch.testing.assert_close(
            approximate(sigma=sigma).penalty(*scores), exact().penalty(*scores).detach(), rtol=0.15, atol=0
        )


@pytest.mark.parametrize("kind", [R1Approximate, R2Approximate])
def test_noise_that_rounding_would_remove_is_refused(kind):
    with pytest.raises(ValidationError, match="greater than or equal to"):
        kind(sigma=1e-9)
    image = torch.ones(1, 1) - 0.1
    assert image + kind(sigma=1e-4).sigma != image


def test_gradients_of_the_weights_are_near_those_of_the_exact_penalty():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    real, fake = torch.randn(1, 3).repeat(20_000, 1).double(), torch.randn(1, 3).repeat(20_000, 1).double()
    for approximate, exact in ((R1Approximate(sigma=1e-3), R1()), (R2Approximate(sigma=1e-3), R2())):
        found, expected = (
            torch.cat(
                [
                    gradient.flatten()
                    for gradient in torch.autograd.grad(
                        penalty.penalty(*pair(critic, real, fake)), list(critic.parameters())[:3]
                    )
                ]
            )
            for penalty in (approximate, exact)
        )
        assert (found - expected).norm() < 0.05 * expected.norm()


def test_penalty_passes_conditions_and_reads_outputs():
    class Critic(nn.Module):
        def forward(self, images, labels):
            return Output(images * labels.unsqueeze(1))

    labels = torch.tensor([0, 3])
    scores = score(Critic(), torch.zeros(2, 1, requires_grad=True), labels)
    torch.manual_seed(0)
    noise = torch.randn(2, 1)
    torch.manual_seed(0)
    torch.testing.assert_close(R1Approximate().penalty(scores, scores), (3 * noise[1, 0]) ** 2 / 4)


def test_dropout_is_refused_where_it_draws_and_strength_is_gamma():
    critic = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5))
    scores = score(critic, torch.zeros(3, 2))
    with pytest.raises(ConfigError, match="this one has dropout"):
        R2Approximate().penalty(scores, scores)
    critic.eval()
    assert R2Approximate().penalty(scores, scores) >= 0
    assert R1Approximate(gamma=3.0).strength(START) == 3
