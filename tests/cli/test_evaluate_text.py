"""What `evaluate` prints about a result, without a run."""

from types import SimpleNamespace

from gancore import Catalog, Measurement, find_metric
from gancore.evaluation.evaluator import Result
from gancore_cli.evaluation_text import _accuracy, _legend, _rows

CATALOG = Catalog.installed()


def result_of(name="class-agreement-classifier", accuracy=None, details=()):
    extractor = {"name": "classifier", "sha256": "c0ffee" * 10, "accuracy": accuracy, "gate": None}
    measured = Measurement(0.5, dict(details))
    return Result(name, "higher", measured, None, {"generated": 5}, {}, {"extractor": extractor})


def test_details_of_classes_have_their_names():
    classes = ("ape", "1", "a\nb")
    found = result_of(details={"lowest": 0.0, "class_0": 0.5, "class_1": 1.0, "class_2": 0.0, "class_3": 0.0})
    assert [row[0].removeprefix("class-agreement-classifier.") for row in _rows(found, classes)][1:] == [
        *("lowest", "class_0 (ape)", "class_1", r"class_2 (a\nb)", "class_3")
    ]


def test_legend_is_about_the_columns_that_have_numbers():
    columns = ["metric", "value", "real data", "ideal"]
    real, ideal = "compare each value with that of real data", "ideal: a perfect model with as many images"
    assert _legend([["fd", "2", "1", "-"], ["kid", "2", "-", "1"]], columns) == f"{real}; {ideal}"
    assert _legend([["fd", "2", "1", "-"]], columns) == _legend([["fd", "2", "1"]], columns[:3]) == real
    assert _legend([["fd", "2", "-", "1"]], columns) == ideal
    assert _legend([["fd", "2", "-"]], columns[:3]) == ""


def test_classifier_without_held_out_images_is_said_to_be_unchecked():
    metrics = {
        "class-agreement-classifier": find_metric("class-agreement-classifier", CATALOG),
        "fd-self-supervised": find_metric("fd-self-supervised", CATALOG),
    }
    evaluator = SimpleNamespace(metrics=metrics)
    unchecked = "extractor classifier c0ffeec0ffee was not checked, since no images are held out"
    assert _accuracy(result_of(), evaluator) == unchecked
    assert _accuracy(result_of(accuracy=0.5), evaluator).endswith("classifies 50.00% of held-out images correctly")
    assert _accuracy(result_of("fd-self-supervised"), evaluator) is None
