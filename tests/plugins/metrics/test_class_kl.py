import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore.metrics import MetricInputs
from gancore_plugins.metrics.classes import ClassDivergence
from helpers.metric_inputs import GIVEN, of_classes, shuffled

METRIC = ClassDivergence(extractor=GIVEN)


def measured(fake, real, classes):
    return METRIC.measure(MetricInputs(of_classes(fake, classes), of_classes(real, classes)))


def spread(counts):
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=2, max_size=6))
def test_known_histograms_have_the_divergence_of_the_formula(counts):
    fake, real = zip(*counts, strict=True)
    if sum(fake) < len(fake):
        return
    p, q = [each / sum(fake) for each in fake], [each / sum(real) for each in real]
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)
    found = measured(spread(fake), spread(real), len(fake))
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.details == {"rarest_share": pytest.approx(min(p))}


def test_the_order_of_images_does_not_matter():
    fake, real = spread([3, 5, 9]), spread([4, 4, 4])
    assert measured(fake, real, 3) == measured(shuffled(0, fake), shuffled(1, real), 3)


def test_one_class_of_ten_is_log_ten_away():
    assert measured(torch.full((100,), 7), torch.arange(10).repeat(10), 10).value == pytest.approx(math.log(10))


def test_a_class_that_real_data_lacks_is_infinitely_far():
    assert measured(spread([5, 5]), spread([10, 0]), 2).value == math.inf


def test_what_equal_distributions_score_by_chance_is_what_is_told():
    dice = torch.Generator().manual_seed(0)
    found = [measured(*(torch.randint(10, (2000,), generator=dice) for _ in range(2)), 10) for _ in range(30)]
    assert found[0].ideal["value"] == pytest.approx(9 / 2000)
    assert sum(each.value for each in found) / 30 == pytest.approx(9 / 2000, rel=0.25)


@pytest.mark.parametrize(("count", "warned"), [(99, True), (100, False)])
def test_few_images_for_so_many_classes_are_warned_of(count, warned):
    assert bool(measured(torch.arange(count) % 10, torch.arange(100) % 10, 10).warnings) == warned


def test_fewer_images_than_classes_are_refused():
    with pytest.raises(DataError, match="10 classes take as many images of each kind; received 9 and 20"):
        measured(torch.arange(9), torch.arange(10).repeat(2), 10)
