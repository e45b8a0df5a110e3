import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.kid import KernelInceptionDistance

from gancore.errors import DataError
from gancore_plugins.metrics.kernel import KernelDistance
from helpers.metric_inputs import GIVEN, normal, of_features, shuffled

WHOLE = KernelDistance(extractor=GIVEN, subsets=1, subset_size=200)


def kernel(first, second):
    return (first @ second.T / first.shape[1] + 1) ** 3


def unbiased(first, second):
    """The estimate of Gretton et al. 2012, eq. 3 (JMLR 13)."""
    first, second = first.double(), second.double()
    n, m = len(first), len(second)
    within = [(kernel(x, x).sum() - kernel(x, x).trace()) / (len(x) * (len(x) - 1)) for x in (first, second)]
    return float(within[0] + within[1] - 2 * kernel(first, second).sum() / (n * m))


@given(st.integers(0, 99), st.floats(-2, 2))
@settings(max_examples=20)
def test_kid_of_one_subset_of_all_images_equals_the_formula(seed, shift):
    fake, real = normal(seed, 200, 5), normal(seed + 1, 200, 5) + shift
    assert WHOLE.measure(of_features(fake, real)).value == pytest.approx(unbiased(fake, real), rel=1e-5, abs=1e-7)


@pytest.mark.filterwarnings("ignore:Metric .Kernel Inception Distance. will save:UserWarning")
def test_kid_equals_torchmetrics():
    class Identity(nn.Module):
        num_features = 6

        def forward(self, features):
            return features

    fake, real = normal(0, 200, 6) + 1, normal(1, 200, 6)
    other = KernelInceptionDistance(Identity(), subsets=1, subset_size=200)
    other.update(fake, real=False)
    other.update(real, real=True)
    assert WHOLE.measure(of_features(fake, real)).value == pytest.approx(float(other.compute()[0]), rel=1e-4)


def test_kid_does_not_depend_on_the_order_of_images():
    metric = KernelDistance(extractor=GIVEN, subsets=7, subset_size=50)
    fake, real = normal(0, 90, 5) + 0.5, normal(1, 120, 5)
    first = metric.measure(of_features(fake, real))
    second = metric.measure(of_features(shuffled(2, fake), shuffled(3, real)))
    assert first == second
    assert first.details["std"] > 0


@pytest.mark.parametrize(
    ("fakes", "reals", "size", "varies"), [(90, 120, 50, True), (90, 120, 90, False), (90, 90, 90, False)]
)
def test_kid_has_the_deviation_of_its_subsets_unless_they_have_all_images_of_a_kind(fakes, reals, size, varies):
    metric = KernelDistance(extractor=GIVEN, subsets=7, subset_size=size)
    found = metric.measure(of_features(normal(0, fakes, 5), normal(1, reals, 5)))
    assert set(found.details) == ({"std"} if varies else set())
    assert found.warnings == ()


def test_kid_of_all_images_is_that_of_one_subset():
    inputs = of_features(normal(0, 200, 5), normal(1, 200, 5))
    assert KernelDistance(extractor=GIVEN, subset_size=200).measure(inputs) == WHOLE.measure(inputs)


def test_kid_is_symmetric():
    first, second = normal(0, 200, 5), normal(1, 200, 5) + 0.4
    found = [WHOLE.measure(of_features(*pair)).value for pair in ((first, second), (second, first))]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_kid_is_unbiased_so_it_may_be_negative():
    found = [WHOLE.measure(of_features(normal(seed, 200, 5), normal(seed + 50, 200, 5))).value for seed in range(12)]
    assert min(found) < 0 < max(found)


def test_kid_warns_if_subsets_are_smaller_than_requested():
    found = KernelDistance(extractor=GIVEN).measure(of_features(normal(0, 30, 4), normal(1, 40, 4)))
    assert found.warnings == ("subsets have 30 images, since there are no more",)
    with pytest.raises(DataError, match="at least 2 generated and real samples; received 1 and 40"):
        KernelDistance(extractor=GIVEN).measure(of_features(normal(0, 1, 4), normal(1, 40, 4)))


def test_kid_does_not_change_the_random_state():
    before = torch.get_rng_state()
    WHOLE.measure(of_features(normal(0, 200, 5), normal(1, 200, 5)))
    assert torch.equal(before, torch.get_rng_state())
