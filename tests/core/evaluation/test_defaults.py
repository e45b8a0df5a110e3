import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import EvaluationProtocol
from gancore.errors import ConfigError, DataError
from gancore.evaluation.defaults import evaluator_for_images, evaluator_for_run
from gancore.evaluation.sources import ReferenceImages
from gancore.evaluation.train_extractor import EvaluationPaths
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.mixtures import Ring
from helpers.metric_inputs import normal
from helpers.tiny_components import PARTS, Noise, catalog


def paths(folder):
    return EvaluationPaths(folder, folder / "cache", torch.device("cpu"))


def for_run(folder, *layers, **options):
    run = resolve([ConfigLayer("test", layer) for layer in (PARTS, *layers)], catalog())
    return evaluator_for_run(run, paths(folder), catalog(), **options)


def for_images(folder, images, **options):
    return evaluator_for_images(images, paths(folder), catalog(), **options)


def files(images):
    return ReferenceImages("files", TensorDataset(images))


RING = {"dataset": "ring"}


def test_defaults_are_those_of_the_dataset(tmp_path):
    found = for_run(tmp_path, RING, {"seed": 7})
    assert (list(found.metrics), found.count, found.seed) == (["modes"], 2500, 7)
    assert (found.reference.dataset, found.origin.training.dataset) == (Ring(split="test"), Ring())
    assert found.origin.held_out


def test_defaults_of_a_dataset_without_a_protocol(tmp_path):
    found = for_run(tmp_path)
    assert (list(found.metrics), found.count) == (list(EvaluationProtocol().metrics), len(found.reference))
    assert (found.reference, found.origin.held_out) == (found.origin.training, False)


def test_arguments_override_the_run_which_overrides_the_dataset(tmp_path):
    configured = {"metrics": {"coverage-random": {"k": 9}, "modes": {}}}
    found = for_run(tmp_path, RING, configured)
    assert (list(found.metrics), found.count) == (["coverage-random", "modes"], 2500)
    found = for_run(tmp_path, RING, configured, metrics=["fd-random", "coverage-random"], count=5, seed=2)
    assert (list(found.metrics), found.count, found.seed) == (["fd-random", "coverage-random"], 5, 2)
    assert found.metrics["coverage-random"].k == 9


def test_reference_is_held_out_only_if_it_is_the_test_part(tmp_path):
    own, other = ReferenceImages.of(Ring(split="test"), tmp_path), files(normal(0, 9, 2))
    assert for_run(tmp_path, RING, reference=own).origin.held_out
    found = for_run(tmp_path, RING, reference=other)
    assert not found.origin.held_out
    assert found.reference is other


def test_default_metrics_leave_out_those_that_need_held_out_data(tmp_path):
    class Protected(Noise):
        name = "protected"
        evaluation = EvaluationProtocol(metrics=("fd-random", "memorization-random"), samples=20)

    images, real = normal(0, 30, 3), ReferenceImages.of(Protected(shape=(3,), count=40), tmp_path)
    found = for_images(tmp_path, images, reference=real)
    assert list(found.metrics) == ["fd-random"]
    with pytest.raises(ConfigError, match="none are held out"):
        for_images(tmp_path, images, reference=real, metrics=["memorization-random"])


def test_unknown_images_are_replaced_by_the_training_part_when_real_data_is_scored(tmp_path):
    real = ReferenceImages.of(Ring(split="test"), tmp_path)
    found = for_images(tmp_path, normal(0, 50, 2), reference=real)
    assert (list(found.metrics), found.count, found.origin.held_out) == (["modes"], 50, True)
    assert found.origin.training.dataset == Ring()


def test_unknown_images_need_a_reference(tmp_path):
    with pytest.raises(ConfigError, match="no reference given"):
        for_images(tmp_path, normal(0, 50, 2))
    with pytest.raises(ConfigError, match="compares with real images"):
        for_images(tmp_path, normal(0, 50, 2), metrics=["fd-random"])


def test_image_shape_is_checked_before_an_extractor_is_trained(tmp_path):
    real = ReferenceImages.of(Ring(split="test"), tmp_path)
    with pytest.raises(DataError, match="2 in ring; received 3"):
        for_images(tmp_path, normal(0, 50, 3), reference=real)


def test_run_data_is_not_built_if_another_reference_is_given(tmp_path):
    other = files(torch.zeros(9, 1, 28, 28, dtype=torch.uint8))
    found = for_run(tmp_path, {"dataset": "mnist"}, reference=other, metrics=["fd-random"])
    assert (found.origin.training, found.reference) == (None, other)


def test_extractor_is_trained_on_the_run_data_if_the_reference_has_no_labels(tmp_path):
    pictures = Digits().build(tmp_path).tensors[0]
    found = for_run(tmp_path, {"dataset": "digits"}, reference=files(pictures), metrics=["fd-classifier"])
    tasks = [preparation.what for preparation in found.prepare()]
    assert "training extractor classifier on digits, 1,438 images, once" in tasks
    assert found.evaluate(pictures).results[0].measured.value == pytest.approx(0, abs=1e-6)


def test_metric_may_be_an_inline_table(tmp_path):
    table = "{name = 'fd', extractor = {name = 'random', seed = 3}}"
    found = for_run(tmp_path, RING, metrics=[table])
    assert list(found.metrics) == ["fd-random"]
    assert found.metrics["fd-random"].extractor.seed == 3


def test_metric_name_is_checked_before_data_is_read(tmp_path):
    with pytest.raises(ConfigError, match="unknown metric"):
        for_run(tmp_path, {"dataset": "mnist"}, metrics=["fid-classifier"])


def test_metrics_of_the_same_name_are_rejected(tmp_path):
    table = "{name = 'fd', extractor = {name = 'random', seed = 3}}"
    with pytest.raises(ConfigError, match="two different metrics have the same name fd-random"):
        for_run(tmp_path, RING, metrics=["fd-random", table])
    assert list(for_run(tmp_path, RING, metrics=["fd-random", "fd-random"]).metrics) == ["fd-random"]


def test_images_in_zero_to_one_are_rejected(tmp_path):
    digits = ReferenceImages.of(Digits(), tmp_path)
    images = digits.images.tensors[0] // 255
    with pytest.raises(DataError, match=r"must be in 0\.\.255.*the largest value in these is 1"):
        for_images(tmp_path, images, reference=digits, metrics=["fd-random"])
    black = torch.zeros_like(images)
    assert for_images(tmp_path, black, reference=digits, metrics=["fd-random"])


def test_mixture_of_the_training_data_is_used_with_another_reference(tmp_path):
    other = files(normal(0, 50, 2))
    found = for_run(tmp_path, RING, reference=other, metrics=["modes"], count=50)
    list(found.prepare())
    assert found.evaluate(normal(1, 50, 2)).results[0].measured.ideal["high_quality"] == pytest.approx(0.9889, abs=1e-4)


def test_reference_of_a_run_is_what_its_data_holds_out(tmp_path):
    for number in range(40):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    data = {"name": "folder", "path": str(tmp_path), "size": 4, "channels": 1, "holdout": 0.25}
    found = for_run(tmp_path, {"dataset": data})
    assert (found.origin.held_out, found.reference.split) == (True, "test")
    sources = found.origin.training, found.reference
    trained_on, held_out = ({int(image.max()) for image in source.draw(99, 0, "all")} for source in sources)
    assert trained_on | held_out == set(range(40))
    assert not trained_on & held_out
