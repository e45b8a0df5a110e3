import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore_plugins.metrics.memorization import Memorization
from helpers.metric_inputs import GIVEN, normal, of_features, shuffled

METRIC = Memorization(extractor=GIVEN)


def measured(fake, held_out, training):
    return METRIC.measure(of_features(fake, held_out, training))


@given(st.integers(0, 99), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=25)
def test_memorization_equals_its_definition(seed, fakes, unseen):
    training = normal(seed, 9, 2)
    fake, held_out = normal(seed + 1, fakes, 2), normal(seed + 2, unseen, 2)
    fake[0] = held_out[0]  # a tie
    near = [[float((x - training).double().norm(dim=1).min()) for x in part] for part in (fake, held_out)]
    pairs = [(a < b) + (a == b) / 2 for a in near[0] for b in near[1]]
    found = measured(fake, held_out, training)
    assert found.details["chance"] == pytest.approx(sum(pairs) / len(pairs))
    assert found.value == max(0.5, found.details["chance"])


def test_memorization_of_copies_is_one():
    training, held_out = normal(0, 300, 3), normal(1, 200, 3)
    found = measured(training[:100], held_out, training)
    assert found.value == 1
    assert found.details["median_generated"] == 0 < found.details["median_held_out"]
    assert found.ideal == {"value": pytest.approx(0.5141, abs=1e-4), "chance": 0.5}


def test_memorization_of_unseen_and_distant_images_is_one_half():
    training, held_out, fresh = normal(0, 1000, 3), normal(1, 1000, 3), normal(2, 1000, 3)
    assert measured(fresh, held_out, training).details["chance"] == pytest.approx(0.5, abs=0.04)
    distant = measured(fresh + 30, held_out, training)
    assert (distant.value, distant.details["chance"]) == (0.5, 0)


@pytest.mark.parametrize(("fakes", "unseen"), [(60, 60), (40, 90)])
def test_memorization_ideal_is_the_mean_for_unseen_images(fakes, unseen):
    training = normal(0, 300, 3)
    found = [measured(normal(seed, fakes, 3), normal(seed + 1, unseen, 3), training) for seed in range(1, 401, 2)]
    assert sum(each.value for each in found) / len(found) == pytest.approx(found[0].ideal["value"], abs=0.006)
    assert found[0].ideal["value"] > 0.52


def test_memorization_does_not_depend_on_the_order_of_images():
    parts = [normal(seed, 40, 3) for seed in range(3)]
    assert measured(*parts) == measured(*(shuffled(9, part) for part in parts))


def test_memorization_refuses_unknown_training_images():
    with pytest.raises(DataError, match="needs the training images, which are unknown here"):
        measured(torch.zeros(3, 2), torch.zeros(3, 2), None)
