import pytest
import torch

from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import EvaluationProtocol
from gancore.errors import ConfigError, DataError
from gancore.evaluation.defaults import evaluator_of_images, evaluator_of_run
from gancore.evaluation.sources import Plain, ReferenceImages
from gancore.evaluation.train_extractor import EvaluationPaths
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.mixtures import Ring
from helpers.metric_inputs import normal
from helpers.tiny_components import PARTS, Noise, catalog


def place(folder):
    return EvaluationPaths(folder, folder / "cache", torch.device("cpu"))


def of_run(folder, *layers, **options):
    run = resolve([ConfigLayer("test", layer) for layer in (PARTS, *layers)], catalog())
    return evaluator_of_run(run, place(folder), catalog(), **options)


RING = {"dataset": "ring"}


def test_the_dataset_decides_where_nobody_said(tmp_path):
    found = of_run(tmp_path, RING, {"seed": 7})
    assert (list(found.metrics), found.count, found.seed) == (["modes"], 2500, 7)
    assert (found.reference.dataset, found.origin.training.dataset, found.origin.held_out) == (
        Ring(split="test"),
        Ring(),
        True,
    )


def test_a_dataset_that_says_nothing_is_measured_by_the_defaults(tmp_path):
    found = of_run(tmp_path)
    assert (list(found.metrics), found.count) == (list(EvaluationProtocol().metrics), EvaluationProtocol().samples)
    assert (found.reference, found.origin.held_out) == (found.origin.training, False)


def test_the_run_overrides_the_dataset_and_arguments_override_both(tmp_path):
    said = {"metrics": {"coverage-random": {"k": 9}, "modes": {}}}
    found = of_run(tmp_path, RING, said)
    assert (list(found.metrics), found.count) == (["coverage-random", "modes"], 2500)
    found = of_run(tmp_path, RING, said, metrics=["fd-random", "coverage-random"], count=5, seed=2)
    assert (list(found.metrics), found.count, found.seed) == (["fd-random", "coverage-random"], 5, 2)
    assert found.metrics["coverage-random"].k == 9


def test_another_reference_is_not_held_out_unless_it_is_the_one_that_is(tmp_path):
    own, other = ReferenceImages.of(Ring(split="test"), tmp_path), ReferenceImages("files", Plain(normal(0, 9, 2)))
    assert of_run(tmp_path, RING, reference=own).origin.held_out
    found = of_run(tmp_path, RING, reference=other)
    assert not found.origin.held_out
    assert found.reference is other


def test_metrics_that_need_what_is_not_held_out_are_no_defaults(tmp_path):
    class Protected(Noise):
        name = "protected"
        evaluation = EvaluationProtocol(metrics=("fd-random", "memorization-random"), samples=20)

    images, real = normal(0, 30, 3), ReferenceImages.of(Protected(shape=(3,), count=40), tmp_path)
    found = evaluator_of_images(images, place(tmp_path), catalog(), reference=real)
    assert list(found.metrics) == ["fd-random"]
    with pytest.raises(ConfigError, match="none are held out"):
        evaluator_of_images(images, place(tmp_path), catalog(), reference=real, metrics=["memorization-random"])


def test_images_of_unknown_origin_have_the_training_part_as_their_stand_in(tmp_path):
    real = ReferenceImages.of(Ring(split="test"), tmp_path)
    found = evaluator_of_images(normal(0, 50, 2), place(tmp_path), catalog(), reference=real)
    assert (list(found.metrics), found.count, found.origin.held_out) == (["modes"], 50, True)
    assert found.origin.training.dataset == Ring()


def test_images_of_unknown_origin_must_be_compared_with_something(tmp_path):
    with pytest.raises(ConfigError, match="must be compared with something"):
        evaluator_of_images(normal(0, 50, 2), place(tmp_path), catalog())
    with pytest.raises(ConfigError, match="compares with real images"):
        evaluator_of_images(normal(0, 50, 2), place(tmp_path), catalog(), metrics=["fd-random"])


def test_a_wrong_shape_is_told_before_anything_is_learned(tmp_path):
    real = ReferenceImages.of(Ring(split="test"), tmp_path)
    with pytest.raises(DataError, match="2 in ring; received 3"):
        evaluator_of_images(normal(0, 50, 3), place(tmp_path), catalog(), reference=real)


def test_a_run_that_is_compared_with_something_else_does_not_need_its_own_data(tmp_path):
    other = ReferenceImages("files", Plain(torch.zeros(9, 1, 28, 28, dtype=torch.uint8)))
    found = of_run(tmp_path, {"dataset": "mnist"}, reference=other, metrics=["fd-random"])
    assert (found.origin.training, found.reference) == (None, other)


def test_who_learns_learns_from_the_run_where_the_reference_has_no_labels(tmp_path):
    pictures = Digits().build(tmp_path).tensors[0]
    found = of_run(
        tmp_path, {"dataset": "digits"}, reference=ReferenceImages("files", Plain(pictures)), metrics=["fd-digits"]
    )
    said = [preparation.what for preparation in found.prepare()]
    assert "digits learns to read digits, 1,438 images, once" in said
    assert found.evaluate(pictures).results[0].measured.value == pytest.approx(0, abs=1e-6)


def test_metrics_may_be_tables(tmp_path):
    table = "{name = 'fd', extractor = {name = 'random', seed = 3}}"
    found = of_run(tmp_path, RING, metrics=[table])
    assert list(found.metrics) == ["fd-random"]
    assert found.metrics["fd-random"].extractor.seed == 3


def test_wrong_names_are_told_before_any_data_is_opened(tmp_path):
    with pytest.raises(ConfigError, match="unknown metric"):
        of_run(tmp_path, {"dataset": "mnist"}, metrics=["fid-digits"])


def test_two_metrics_of_one_name_are_refused(tmp_path):
    table = "{name = 'fd', extractor = {name = 'random', seed = 3}}"
    with pytest.raises(ConfigError, match="two metrics are both called fd-random"):
        of_run(tmp_path, RING, metrics=["fd-random", table])
    assert list(of_run(tmp_path, RING, metrics=["fd-random", "fd-random"]).metrics) == ["fd-random"]


def test_images_between_zero_and_one_are_of_the_wrong_range(tmp_path):
    digits = ReferenceImages.of(Digits(), tmp_path)
    images = digits.images.tensors[0] // 255
    with pytest.raises(DataError, match=r"must be in 0\.\.255.*the largest value of these is 1"):
        evaluator_of_images(images, place(tmp_path), catalog(), reference=digits, metrics=["fd-random"])
    black = torch.zeros_like(images)
    assert evaluator_of_images(black, place(tmp_path), catalog(), reference=digits, metrics=["fd-random"])


def test_the_modes_of_a_toy_are_known_whatever_its_run_is_compared_with(tmp_path):
    other = ReferenceImages("files", Plain(normal(0, 50, 2)))
    found = of_run(tmp_path, RING, reference=other, metrics=["modes"], count=50)
    list(found.prepare())
    assert found.evaluate(normal(1, 50, 2)).results[0].measured.ideal["high_quality"] == pytest.approx(0.9889, abs=1e-4)
