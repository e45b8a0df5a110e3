import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs, Samples
from helpers.metric_inputs import GIVEN, of_classes, of_features
from helpers.strategies import components
from helpers.tiny_components import catalog

IMAGES = Samples(torch.zeros(2, 1, 1, 1, dtype=torch.uint8))


class Counted(Metric):
    """Counts images."""

    name = "counted"
    needs = frozenset({"features"})
    better = "higher"

    def measure(self, inputs):
        return Measurement(float(len(inputs.fake)))


@given(components(Metric))
def test_metrics_declare_needs_and_better(metric):
    assert metric.better in {"lower", "higher"}
    assert metric.needs <= {"images", "features", "labels", "reference", "training", "conditions"}
    assert metric.needs


def test_metric_of_features_needs_an_extractor():
    with pytest.raises(ValidationError, match="needs an extractor, as in counted-classifier"):
        Counted()
    assert Counted(extractor=GIVEN).extractor == GIVEN


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_shares_count_the_most_likely_classes(labels):
    shares = of_classes(labels, 4).shares()
    assert shares.tolist() == pytest.approx([labels.count(each) / len(labels) for each in range(4)])


def test_metric_inputs_name_what_is_missing():
    with pytest.raises(DataError, match="given no class logits"):
        IMAGES.shares()
    with pytest.raises(DataError, match="given no real images"):
        MetricInputs(IMAGES).reference  # noqa: B018  # the property raises
    with pytest.raises(DataError, match="given no features"):
        MetricInputs(IMAGES, IMAGES).features  # noqa: B018  # as above


def test_features_are_those_of_generated_and_real_images():
    fake, real = of_features(torch.zeros(3, 2), torch.ones(4, 2)).features
    assert (len(fake), len(real)) == (3, 4)


def test_metric_inputs_compute_shared_values_once_per_key():
    first, second = MetricInputs(IMAGES), MetricInputs(IMAGES)
    calls = []
    for inputs, key in ((first, "a"), (first, "a"), (first, "b"), (second, "a")):
        assert inputs.once(key, lambda: calls.append(None) or len(calls)) > 0
    assert len(calls) == 3


@pytest.mark.parametrize("kind", ["metric", "extractor"])
def test_builtin_metrics_and_extractors_are_found_by_name(kind):
    known = catalog()
    names = {component.name for component, _ in known.offers(known.kinds[kind])}
    expected = {
        "metric": {
            "fd",
            "kid",
            "is",
            "precision",
            "recall",
            "density",
            "coverage",
            "class-kl",
            "memorization",
            "modes",
        },
        "extractor": {"classifier", "self-supervised", "random", "inception"},
    }
    assert expected[kind] <= names


def described(**body):
    return type("Made", (Metric,), {"name": "made", "measure": Counted.measure, "__module__": __name__, **body})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"better": "lower"}, "Made.needs must be a frozenset"),
        ({"better": "lower", "needs": {"images"}}, "Made.needs must be a frozenset"),
        ({"better": "lower", "needs": frozenset({"feature"})}, "Made.needs must be a frozenset"),
        ({"needs": frozenset({"images"})}, "Made.better must be one of"),
        ({"better": "larger", "needs": frozenset({"images"})}, "Made.better must be one of"),
    ],
)
def test_metric_class_without_needs_or_better_is_rejected(body, words):
    with pytest.raises(TypeError, match=words):
        described(**body)
    assert described(better="lower", needs=frozenset({"images"})).better == "lower"
