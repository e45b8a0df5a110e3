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

PICTURE = Samples(torch.zeros(2, 1, 1, 1, dtype=torch.uint8))


class Counted(Metric):
    """Counts images."""

    name = "counted"
    needs = frozenset({"features"})
    better = "higher"

    def measure(self, evidence):
        return Measurement(float(len(evidence.fake)))


@given(components(Metric))
def test_every_metric_says_what_it_needs_and_what_is_better(metric):
    assert metric.better in {"lower", "higher"}
    assert metric.needs <= {"images", "features", "labels", "reference", "training"}
    assert metric.needs


def test_a_metric_that_reads_features_needs_an_extractor():
    with pytest.raises(ValidationError, match="looks through an extractor; name one, as in counted-digits"):
        Counted()
    assert Counted(extractor=GIVEN).extractor == GIVEN


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_shares_are_those_of_the_likeliest_classes(labels):
    shares = of_classes(labels, 4).shares()
    assert shares.tolist() == pytest.approx([labels.count(each) / len(labels) for each in range(4)])


def test_what_is_not_there_is_told_with_its_name():
    with pytest.raises(DataError, match="classes of the images are needed"):
        PICTURE.shares()
    with pytest.raises(DataError, match="real images are needed"):
        MetricInputs(PICTURE).reference  # noqa: B018  # touching it is the test
    with pytest.raises(DataError, match="features are needed"):
        MetricInputs(PICTURE, PICTURE).features  # noqa: B018  # as above


def test_features_are_those_of_the_generated_and_the_real_images():
    fake, real = of_features(torch.zeros(3, 2), torch.ones(4, 2)).features
    assert (len(fake), len(real)) == (3, 4)


def test_what_is_shared_is_computed_once_for_each_evidence_and_key():
    evidence, other = MetricInputs(PICTURE), MetricInputs(PICTURE)
    calls = []
    for where, key in ((evidence, "a"), (evidence, "a"), (evidence, "b"), (other, "a")):
        assert where.once(key, lambda: calls.append(None) or len(calls)) > 0
    assert len(calls) == 3


@pytest.mark.parametrize("kind", ["metric", "extractor"])
def test_built_ins_of_the_new_kinds_are_found_by_name(kind):
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
        "extractor": {"digits", "random", "inception"},
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
def test_a_metric_that_does_not_say_what_it_needs_is_refused_when_it_is_defined(body, words):
    with pytest.raises(TypeError, match=words):
        described(**body)
    assert described(better="lower", needs=frozenset({"images"})).better == "lower"
