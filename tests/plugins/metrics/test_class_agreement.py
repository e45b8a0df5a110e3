from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gancore
from gancore.errors import ConfigError, DataError
from gancore.evaluation.defaults import evaluator_for_images
from gancore.metrics import MetricInputs
from gancore_plugins.metrics.agreement import ClassAgreement
from helpers.metric_inputs import GIVEN, of_classes

METRIC = ClassAgreement(extractor=GIVEN)


def measured(asked, read, classes=3):
    return METRIC.measure(MetricInputs(replace(of_classes(read, classes), asked=torch.tensor(asked))))


def test_class_agreement_is_the_share_of_classes_that_are_read_as_asked():
    found = measured([0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 2, 0])
    assert found.value == pytest.approx(4 / 7)
    assert found.details == {"lowest": 0.0, "class_0": 0.75, "class_1": 0.5, "class_2": 0.0}


def test_class_agreement_leaves_out_classes_that_were_not_asked_for():
    assert measured([1, 1], [1, 0]).details == {"lowest": 0.5, "class_1": 0.5}
    many = list(range(101))
    assert measured(many, many, 101).details == {"lowest": 1.0}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=9))
@settings(max_examples=20)
def test_class_agreement_does_not_depend_on_the_order_of_images(pairs):
    assert measured(*zip(*pairs, strict=True)) == measured(*zip(*sorted(pairs), strict=True))


def test_class_agreement_refuses_a_class_that_the_extractor_does_not_have():
    with pytest.raises(DataError, match="asked for class 3, but the extractor has 3 classes"):
        measured([3], [0])
    with pytest.raises(DataError, match="at least 1 generated sample"):
        METRIC.measure(MetricInputs(replace(of_classes([0], 3), asked=torch.zeros(0, dtype=torch.int64))))


def test_class_agreement_of_real_data_is_the_accuracy_on_its_labels(tmp_path):
    """Pixels that say the class, in one image of ten another class."""

    class Labeled(torch.utils.data.TensorDataset):
        classes = ("dark", "light")

    class Bright(gancore.Extractor):
        name = "bright"

        def build(self, shape, num_classes, root):
            return Read()

    class Read(torch.nn.Module):
        def forward(self, images):
            light = images.flatten(1)[:, :1].float() - 128
            return gancore.Features(light, torch.cat([-light, light], dim=1))

    labels = torch.arange(400) % 2
    pixels = torch.where(torch.arange(400) % 10 == 0, 1 - labels, labels) * 255
    images = pixels.byte().view(-1, 1, 1, 1)
    reference = gancore.ReferenceImages("pixels", Labeled(images, labels))
    paths = gancore.EvaluationPaths(tmp_path, tmp_path, "cpu")
    for held_out in (False, True):
        origin = gancore.SampleOrigin(reference if held_out else None, held_out)
        evaluator = gancore.Evaluator({"it": ClassAgreement(extractor=Bright())}, paths, reference, origin, count=400)
        for _ in evaluator.prepare():
            pass
        (result,) = evaluator.evaluate(images, 1 - labels).results
        assert result.measured.value == pytest.approx(0.1)
        assert result.real_data.value == pytest.approx(0.9, abs=0.05)
        with pytest.raises(ConfigError, match="it compares the classes of samples"):
            evaluator.evaluate(images)


class Labeled(torch.utils.data.TensorDataset):
    def __init__(self, source, names):
        labels = source.draw_labels(500, 0, "")
        order = torch.tensor([names.index(name) if name in names else 0 for name in source.classes])
        super().__init__(source.draw(500, 0, ""), order[labels])
        self.classes = names


def test_class_agreement_of_real_data_finds_classes_by_their_names(tmp_path):
    catalog = gancore.Catalog.installed()
    paths = gancore.EvaluationPaths(tmp_path, tmp_path, "cpu")
    digits = gancore.ReferenceImages.of(catalog.find(gancore.Dataset, "digits")(), tmp_path)
    metric = ClassAgreement(extractor=catalog.find(gancore.Extractor, "classifier")())

    def evaluated(names, asked=digits.classes):
        origin = gancore.SampleOrigin(dataset=digits.dataset, classes=asked)
        reference = gancore.ReferenceImages("other", Labeled(digits, names))
        made = gancore.Evaluator({"it": metric}, paths, reference, origin, count=500)
        for _ in made.prepare():
            pass
        return made.evaluate(digits.draw(500, 0, ""), digits.draw_labels(500, 0, ""))

    same, turned = evaluated(digits.classes), evaluated(digits.classes[::-1])
    assert turned.results == same.results
    assert same.results[0].real_data.value > 0.7
    other = evaluated(("a", "b"))
    assert other.results[0].measured == same.results[0].measured
    assert other.results[0].real_data is None
    assert other.warnings[-1] == "it is not measured for real images: they have other classes, a, b"
    with pytest.raises(ConfigError, match="classifier classifies classes 0, 1, 2, 3, 4, …; samples are"):
        evaluated(digits.classes, asked=("a", "b"))


def test_class_agreement_of_samples_that_were_asked_for_nothing_is_refused_before_they_are_drawn(tmp_path):
    catalog = gancore.Catalog.installed()
    paths = gancore.EvaluationPaths(tmp_path, tmp_path, "cpu")
    digits = catalog.find(gancore.Dataset, "digits")()
    words = {"metrics": ["class-agreement-classifier"], "reference": gancore.ReferenceImages.of(digits, tmp_path)}
    with pytest.raises(ConfigError, match="class-agreement-classifier compares the classes of samples"):
        evaluator_for_images(torch.zeros(9, 1, 8, 8, dtype=torch.uint8), paths, catalog, **words)
    run = gancore.Run("digits").config
    with pytest.raises(ConfigError, match="class-agreement-classifier compares the classes of samples"):
        gancore.evaluator_for_run(run, paths, catalog, metrics=words["metrics"])
