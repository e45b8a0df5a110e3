import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore.metrics import MetricInputs, Samples
from gancore_plugins.metrics.inception_score import InceptionScore
from helpers.metric_inputs import GIVEN, of_classes, shuffled


def score(samples, splits=1):
    return InceptionScore(extractor=GIVEN, splits=splits).measure(MetricInputs(samples))


@given(st.integers(1, 9), st.integers(0, 5))
def test_inception_score_of_confident_even_classes_is_their_number(classes, others):
    labels = torch.arange(classes).repeat(20)
    assert score(of_classes(labels, classes + others)).value == pytest.approx(classes, rel=1e-5)


def test_inception_score_of_equal_logits_is_one():
    uniform = Samples(torch.zeros(40, 1, 1, 1, dtype=torch.uint8), logits=torch.ones(40, 7))
    assert score(uniform, splits=4).value == pytest.approx(1.0)


def test_inception_score_does_not_depend_on_the_order_of_images():
    logits = torch.randn(95, 6, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(95, 1, 1, 1, dtype=torch.uint8)
    assert score(Samples(images, logits=logits), 10) == score(Samples(images, logits=shuffled(1, logits)), 10)


def test_inception_score_rises_with_the_number_of_images_since_few_are_too_low():
    logits = torch.randn(2000, 10, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(2000, 1, 1, 1, dtype=torch.uint8)
    scores = [score(Samples(images, logits=logits), splits).value for splits in (100, 10, 1)]
    assert scores == sorted(scores)


def test_inception_score_refuses_fewer_images_than_splits():
    with pytest.raises(DataError, match="10 splits need at least 10 images; received 4"):
        score(of_classes([0, 1, 2, 3], 4), splits=10)
