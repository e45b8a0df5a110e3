"""Parts refuse what they do not support, and say what to change."""

import pytest
import torch

from gancore import ConfigError, Scores, Spec
from gancore_families.bigan import BiGAN
from gancore_families.cyclegan import CycleGAN, Translators
from gancore_families.infogan import InfoGAN
from gancore_families.pix2pix import Patches, UNet
from gancore_families.scales import ScalesGenerator

PLAIN = Spec((1, 8, 8), latent_dim=4)
PICTURES = Spec((1, 8, 8), latent_dim=4, condition=(1, 8, 8))


@pytest.mark.parametrize(
    ("component", "spec", "message"),
    [
        (InfoGAN(codes=5), PLAIN, "5 codes are more than the 4 latents"),
        (UNet(), PLAIN, r"needs pictures .* condition None"),
        (UNet(), Spec((1, 8, 8), condition=(1, 4, 4)), r"of the same size as the condition"),
        (
            UNet(depth=4),
            PICTURES,
            r"depth 4 needs pictures whose sides are multiples of 16; received shape \(1, 8, 8\)",
        ),
        (Patches(), PLAIN, r"needs pictures .* condition None"),
        (Patches(), Spec((2,)), r"4x4 pixels or more; received \(2,\)"),
        (Translators(), PLAIN, "generator 'translators' needs pictures"),
        (CycleGAN(), PLAIN, "loss 'cyclegan' needs pictures"),
        (ScalesGenerator(), Spec((1, 7, 8)), r"even sides; received shape \(1, 7, 8\)"),
    ],
)
def test_build_refuses_a_spec_that_it_does_not_support(component, spec, message):
    with pytest.raises(ConfigError, match=message) as refused:
        component.build(spec)
    assert refused.value.hint


def test_parts_refuse_scores_without_what_they_need():
    scores = Scores(images=torch.zeros(2, 1, 8, 8), logits=torch.zeros(2, 1))
    with pytest.raises(ConfigError, match="the scores of real images are needed"):
        BiGAN().generator(scores, None)


@pytest.mark.parametrize("builder", [UNet, Translators])
def test_translations_use_the_condition_and_keep_its_size(builder):
    spec = Spec((3, 8, 16), latent_dim=4, condition=(1, 8, 16))
    network = builder().build(spec)
    made = [network(torch.zeros(2, 4), torch.randn(2, 1, 8, 16)) for _ in range(2)]
    assert made[0].shape == (2, 3, 8, 16)
    assert not torch.equal(*made)
