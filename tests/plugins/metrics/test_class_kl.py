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


def labels_with(counts):
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=2, max_size=6))
def test_class_kl_of_known_histograms_equals_the_formula(counts):
    fake, real = zip(*counts, strict=True)
    if sum(fake) < len(fake):
        return
    p, q = [each / sum(fake) for each in fake], [each / sum(real) for each in real]
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)
    found = measured(labels_with(fake), labels_with(real), len(fake))
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.details == {"rarest_share": pytest.approx(min(p))}


def test_class_kl_does_not_depend_on_the_order_of_images():
    fake, real = labels_with([3, 5, 9]), labels_with([4, 4, 4])
    assert measured(fake, real, 3) == measured(shuffled(0, fake), shuffled(1, real), 3)


def test_class_kl_of_one_class_of_ten_is_log_ten():
    assert measured(torch.full((100,), 7), torch.arange(10).repeat(10), 10).value == pytest.approx(math.log(10))


@pytest.mark.parametrize(
    ("fake", "real", "classes"), [([5, 50], [55, 0], "1"), ([7] * 20, [180, *[0] * 19], "1, 2, 3, 4, 5, …")]
)
def test_class_kl_is_infinite_if_real_data_lacks_a_generated_class_and_names_it(fake, real, classes):
    found = measured(labels_with(fake), labels_with(real), len(fake))
    assert found.value == math.inf
    *_, text = found.warnings
    assert text == f"it is infinite: no real image is read as class {classes}; use more real images"


def test_class_kl_ideal_is_the_mean_for_equal_distributions():
    rng = torch.Generator().manual_seed(0)
    found = [measured(*(torch.randint(10, (2000,), generator=rng) for _ in range(2)), 10) for _ in range(30)]
    assert found[0].ideal["value"] == pytest.approx(9 / 2000)
    assert sum(each.value for each in found) / 30 == pytest.approx(9 / 2000, rel=0.25)


@pytest.mark.parametrize(
    ("fakes", "reals", "text"),
    [
        (99, 100, ["99 images are few for 10 classes; use 100 or more"]),
        (100, 98, ["98 images are few for 10 classes; use 100 or more"]),
        (100, 100, []),
    ],
)
def test_class_kl_warns_of_few_images(fakes, reals, text):
    assert [*measured(torch.arange(fakes) % 10, torch.arange(reals) % 10, 10).warnings] == text


def test_class_kl_refuses_fewer_images_than_classes():
    with pytest.raises(DataError, match="at least 10 generated and real samples; received 9 and 20"):
        measured(torch.arange(9), torch.arange(10).repeat(2), 10)
