import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from gancore.config.metric_names import find_metric
from gancore.contracts import Mixture
from gancore.errors import ConfigError, DataError, PluginError
from gancore.evaluation.evaluator import Evaluator, SampleOrigin
from gancore.evaluation.sources import ReferenceImages
from gancore.evaluation.train_extractor import EvaluationPaths
from gancore.metrics import Measurement, Metric
from gancore.utils.json import json_safe
from gancore.utils.sample_format import SampleFormat
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.mixtures import Ring
from helpers.metric_inputs import normal, shuffled
from helpers.tiny_components import catalog

NAMES = ["fd-random", "coverage-random", "memorization-random", "recall-random"]


class Brightness(Metric):
    """Difference of the mean brightness of fake and real images."""

    name = "brightness"
    needs = frozenset({"images", "reference"})
    better = "lower"

    def measure(self, evidence):
        fake, real = (float(samples.images.float().mean()) for samples in (evidence.fake, evidence.reference))
        return Measurement(abs(fake - real), {"fake": fake}, {"value": 0.0}, ("dim",) if fake < 10 else ())


class Broken(Metric):
    """Fails in the way that its field names."""

    name = "broken"
    needs = frozenset({"images"})
    better = "lower"
    how: str = "raises"

    def measure(self, evidence):
        return {"raises": {}["missing"]} if self.how == "raises" else 3.0


def paths(folder):
    return EvaluationPaths(folder, folder / "cache", torch.device("cpu"))


def vectors(seed, count=200, dimensions=3):
    return TensorDataset(normal(seed, count, dimensions))


def prepared(folder, names=NAMES, *, held_out=True, count=100, seed=0, metrics=None, reference=None, training=None):
    metrics = {name: find_metric(name, catalog()) for name in names} if metrics is None else metrics
    evaluator = Evaluator(
        metrics,
        paths(folder),
        reference or ReferenceImages("real", vectors(1)),
        SampleOrigin(training or ReferenceImages("training", vectors(2, 300)), held_out),
        count=count,
        seed=seed,
    )
    for _ in evaluator.prepare():
        pass
    return evaluator


def test_result_has_what_is_needed_to_compare_it(tmp_path):
    evaluator = prepared(tmp_path)
    evaluation = evaluator.evaluate(normal(3, 150, 3))
    assert [result.name for result in evaluation.results] == NAMES
    found = {result.name: result.to_data() for result in evaluation.results}
    assert found["fd-random"]["counts"] == {"generated": 150, "reference": 200}
    assert found["fd-random"]["real_data_counts"] == {"stand_ins": 100, "reference": 200}
    assert found["memorization-random"]["counts"] == {"generated": 150, "reference": 200, "training": 300}
    halves = {"stand_ins": 50, "reference": 100, "training": 300}
    assert found["memorization-random"]["real_data_counts"] == halves
    for data in found.values():
        assert data["extractor"]["name"] == "random"
        assert len(data["extractor"]["sha256"]) == 64
        assert data["reference"].items() > {"name": "real", "split": None, "held_out": True}.items()
        assert len(data["reference"]["sha256"]) == 64
        assert data["seed"] == 0
        assert data["settings"]["extractor"] == {"name": "random", "width": 1024, "features": 64, "seed": 0}
        assert data["better"] in {"lower", "higher"}
    json.dumps(json_safe(found), allow_nan=False)


def test_numbers_are_flat_and_details_follow_their_metric(tmp_path):
    evaluation = prepared(tmp_path, [], metrics={"brightness": Brightness()}).evaluate(torch.full((9, 3), 4.0))
    assert evaluation.numbers() == {"brightness": pytest.approx(4, abs=0.2), "brightness.fake": 4.0}
    (result,) = evaluation.results
    data = result.to_data()
    assert data["ideal"] == 0.0
    assert data["details"]["fake"]["value"] == 4.0
    assert data["details"]["fake"]["real_data"] == pytest.approx(0, abs=0.3)
    assert data["extractor"] is None
    assert evaluation.warnings == ("brightness: dim",)


@given(st.integers(0, 99))
@settings(max_examples=5)
def test_evaluation_does_not_depend_on_image_order(tmp_path_factory, seed):
    evaluator = prepared(tmp_path_factory.mktemp("order"))
    images = normal(5, 120, 3)
    before, after = (evaluator.evaluate(each).numbers() for each in (images, shuffled(seed, images)))
    assert before == pytest.approx(after, rel=1e-5)


def test_real_images_score_like_real_data_and_copies_and_noise_do_not(tmp_path):
    evaluator = prepared(tmp_path, count=200)

    def scores(images):
        return {
            result.name: (result.measured.value, result.real_data.value)
            for result in evaluator.evaluate(images).results
        }

    fresh = scores(normal(9, 200, 3))
    assert fresh["fd-random"][0] < 4 * fresh["fd-random"][1]
    assert fresh["memorization-random"] == (pytest.approx(0.5, abs=0.1), pytest.approx(0.5, abs=0.12))
    assert scores(normal(2, 300, 3)[:200])["memorization-random"][0] == 1
    noise = scores(normal(9, 200, 3) * 5 + 9)
    assert noise["fd-random"][0] > 20 * noise["fd-random"][1]
    assert noise["coverage-random"][0] == 0


def test_real_data_is_scored_half_against_half_if_nothing_is_held_out(tmp_path):
    evaluator = prepared(tmp_path, ["fd-random", "brightness"][:1], held_out=False, count=1000)
    (result,) = evaluator.evaluate(normal(3, 150, 3)).results
    assert result.counts == {"generated": 150, "reference": 200}
    assert result.real_data_counts == {"stand_ins": 100, "reference": 100}
    assert result.real_data.value > 0
    (result,) = prepared(tmp_path, ["fd-random"], held_out=False, count=150).evaluate(normal(3, 150, 3)).results
    assert result.real_data_counts == {"stand_ins": 75, "reference": 100}, "in the same proportion"


@pytest.mark.parametrize("count", [50, 150, 600])
def test_coverage_of_real_data_is_the_theoretical_value(tmp_path, count):
    real = ReferenceImages("real", vectors(1, 600))
    evaluator = prepared(tmp_path, ["coverage-random"], held_out=False, reference=real, count=count)
    (result,) = evaluator.evaluate(normal(7, count, 3)).results
    assert result.measured.value == pytest.approx(result.measured.ideal["value"], abs=0.09)
    assert result.real_data.value == pytest.approx(result.measured.ideal["value"], abs=0.09)


def test_real_data_that_cannot_be_scored_is_a_warning(tmp_path):
    small = ReferenceImages("real", vectors(1, 90))
    evaluator = prepared(tmp_path, ["fd-random"], held_out=False, reference=small)
    evaluation = evaluator.evaluate(normal(3, 150, 3))
    assert evaluation.results[0].real_data is None
    assert evaluation.results[0].measured.value > 0
    assert any("fd-random cannot be measured for real images" in text and "45" in text for text in evaluation.warnings)
    assert evaluation.results[0].to_data()["real_data"] is None


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(99, 4), "3 in real; received 4"),
        (torch.zeros(99, 1, 3, 3, dtype=torch.uint8), "3 in real; received 1x3x3"),
        (torch.full((99, 3), torch.nan), "must be finite"),
        (torch.full((99, 3), torch.inf), "must be finite"),
        (torch.zeros(99, 3).double(), "must be uint8 in 0..255 or float32"),
        (torch.zeros(99, 1, 3, 3), "3 in real; received 1x3x3"),
        (torch.zeros(64, 3), "more than 64 generated and real samples; received 64 and 200"),
        (torch.zeros(0, 3), "at least one"),
    ],
)
def test_evaluate_rejects_invalid_images_with_the_reason(tmp_path, images, words):
    with pytest.raises(DataError, match=words):
        prepared(tmp_path).evaluate(images)


@pytest.mark.parametrize(
    ("name", "held_out", "reference", "words"),
    [
        ("fd-random", True, False, "fd-random compares with real images, but no reference is given"),
        ("memorization-random", False, True, "held-out images, but none are held out"),
    ],
)
def test_metric_without_the_images_it_needs_is_rejected_at_once(tmp_path, name, held_out, reference, words):
    source = ReferenceImages("real", vectors(1)) if reference else None
    with pytest.raises(ConfigError, match=words):
        Evaluator(
            {name: find_metric(name, catalog())},
            paths(tmp_path),
            source,
            SampleOrigin(source, held_out),
            count=9,
            seed=0,
        )


def test_evaluate_needs_prepare(tmp_path):
    source = ReferenceImages("real", vectors(1))
    evaluator = Evaluator({"fd-random": find_metric("fd-random", catalog())}, paths(tmp_path), source, count=9, seed=0)
    with pytest.raises(ConfigError, match="called before prepare"):
        evaluator.evaluate(normal(0, 100, 3))


def test_prepare_trains_extractors_last_so_that_other_errors_come_first(tmp_path):
    digits = ReferenceImages.of(Digits(), tmp_path)
    for wrong, error in (("is-random", ConfigError), ("fd-inception", DataError), ("modes", ConfigError)):
        evaluator = Evaluator(
            {name: find_metric(name, catalog()) for name in ("fd-classifier", wrong)},
            paths(tmp_path),
            digits,
            count=9,
            seed=0,
        )
        steps = []
        with pytest.raises(error):
            steps.extend(evaluator.prepare())
        assert not [step for step in steps if "training" in step.what]


def test_measurement_values_are_converted_to_float(tmp_path):
    class Tensors(Metric):
        name = "tensors"
        needs = frozenset({"images"})
        better = "lower"

        def measure(self, evidence):
            return Measurement(torch.tensor(3.0), {"a": np.float32(2)}, {"a": np.int64(1)}, ["few"])

    (result,) = prepared(tmp_path, metrics={"tensors": Tensors()}).evaluate(normal(0, 9, 3)).results
    assert result.measured == Measurement(3.0, {"a": 2.0}, {"a": 1.0}, ("few",))
    json.dumps(result.to_data())


def test_held_out_is_unknown_for_images_of_unknown_origin(tmp_path):
    source = ReferenceImages("real", vectors(1))
    metrics = {"fd-random": find_metric("fd-random", catalog())}
    evaluator = Evaluator(metrics, paths(tmp_path), source, SampleOrigin(known=False), count=100, seed=0)
    list(evaluator.prepare())
    (result,) = evaluator.evaluate(normal(0, 100, 3)).results
    assert result.to_data()["reference"]["held_out"] is None


FEW = ("fd-random", "density-random", "brightness")


def few(folder, real, count, optional=FEW, names=FEW):
    """An evaluator whose metrics need more than 64 images, more than 5, and any number."""
    known = {"brightness": Brightness()}
    metrics = {name: known.get(name) or find_metric(name, catalog()) for name in names}
    source = ReferenceImages("real", vectors(1, real))
    return Evaluator(metrics, paths(folder), source, count=count, seed=0, optional=optional)


@pytest.mark.parametrize(
    ("real", "count", "measured"),
    [
        (200, 200, FEW),
        (65, 65, FEW),
        (64, 200, FEW[1:]),
        (200, 64, FEW[1:]),
        (6, 6, FEW[1:]),
        (5, 100, FEW[2:]),
        (100, 5, FEW[2:]),
        (2, 2, FEW[2:]),
        (1, 2, FEW[2:]),
    ],
)
def test_optional_metrics_are_left_out_where_there_are_too_few_images(tmp_path, real, count, measured):
    evaluator = few(tmp_path, real, count)
    list(evaluator.prepare())
    evaluation = evaluator.evaluate(normal(0, count, 3))
    assert [result.name for result in evaluation.results] == list(measured)
    left_out = [text.split()[0] for text in evaluation.warnings if "is left out: " in text]
    assert sorted(left_out) == sorted(set(FEW) - set(measured))
    assert evaluator.evaluate(normal(0, count, 3)).numbers() == evaluation.numbers()


def test_metrics_that_were_asked_for_are_refused_before_an_image_is_generated(tmp_path):
    with pytest.raises(DataError, match=r"fd with 64 features needs more than 64 .*; received 500 and 50"):
        list(few(tmp_path, 50, 500, optional=()).prepare())
    with pytest.raises(DataError, match="needs more than 64"):
        list(few(tmp_path, 50, 500, names=FEW[:1]).prepare())  # no other metric is left
    with pytest.raises(DataError, match=r"too few images for every metric: fd with 64 .*; density with k = 5 ") as said:
        list(few(tmp_path, 5, 500, names=FEW[:2]).prepare())
    assert "use more data" in said.value.hint


def test_default_count_is_that_of_the_real_images(tmp_path):
    evaluator = few(tmp_path, 50, None)
    assert evaluator.count == 50
    list(evaluator.prepare())
    evaluation = evaluator.evaluate(normal(0, 50, 3))
    said, few_images = evaluation.notes
    assert few_images.startswith("scores by fewer than 100 real images say little")
    assert not [text for text in evaluation.warnings if "10,000" in text]
    assert said.startswith("there are 50 real images to compare with, so 50 samples are drawn in place of 10,000;")
    assert (few(tmp_path, 1, None).count, few(tmp_path, 20_000, None).count) == (2, 10_000)
    enough = few(tmp_path, 100, 100)
    list(enough.prepare())
    assert enough.evaluate(normal(0, 100, 3)).notes == ()


def test_images_of_another_type_than_the_reference_are_refused(tmp_path):
    evaluator = few(tmp_path, 50, 50)
    with pytest.raises(DataError, match="images must be float32, like the reference real; received uint8"):
        evaluator.check(torch.zeros(50, 3, dtype=torch.uint8))


def test_class_metric_rejects_an_extractor_without_classes(tmp_path):
    with pytest.raises(ConfigError, match="is-random compares classes, but the extractor 'random' has no classes"):
        prepared(tmp_path, ["is-random"])


@pytest.mark.parametrize(
    ("how", "words"), [("raises", "metric 'broken' failed: KeyError"), ("lies", "must return a Measurement.*float")]
)
def test_metric_failure_is_a_plugin_error(tmp_path, how, words):
    with pytest.raises(PluginError, match=words):
        prepared(tmp_path, metrics={"broken": Broken(how=how)})


def test_mixture_is_passed_to_the_metric(tmp_path):
    training, real = (ReferenceImages.of(Ring(split=split), tmp_path) for split in ("train", "test"))
    evaluator = prepared(tmp_path, ["modes"], reference=real, training=training, count=2500)
    (result,) = evaluator.evaluate(training.images.tensors[0][:2500]).results
    assert isinstance(real.mixture, Mixture)
    assert result.measured.value == result.real_data.value == 8
    assert result.to_data()["reference"].items() > {"name": "ring", "split": "test", "held_out": True}.items()


def test_extractor_trained_on_digits_measures_digits(tmp_path):
    digits = ReferenceImages.of(Digits(), tmp_path)
    names = ["fd-classifier", "class-kl-classifier", "is-classifier"]
    evaluator = prepared(tmp_path, names, reference=digits, training=digits, held_out=False, count=1797)
    images = digits.images.tensors[0]
    whole = evaluator.evaluate(images).numbers()
    assert whole["fd-classifier"] == pytest.approx(0, abs=1e-6)
    assert whole["class-kl-classifier"] == 0
    eights = evaluator.evaluate(images[digits.images.tensors[1] != 8]).numbers()
    assert eights["fd-classifier"] > 0.2
    assert eights["class-kl-classifier.rarest_share"] < 0.02


def test_evaluation_depends_on_the_seed_only(tmp_path):
    first, second = (prepared(tmp_path, seed=4).evaluate(normal(3, 150, 3)) for _ in range(2))
    assert first == second
    assert prepared(tmp_path, seed=5).evaluate(normal(3, 150, 3)) != first


def test_evaluation_leaves_the_random_state_unchanged(tmp_path):
    before = torch.get_rng_state()
    prepared(tmp_path, [*NAMES, "kid-random"]).evaluate(normal(3, 150, 3))
    assert torch.equal(before, torch.get_rng_state())


def test_json_safe_replaces_non_finite_numbers():
    assert json_safe({"a": [math.nan, 1.0, (math.inf,)], "b": {"c": -math.inf, "d": "x", "e": None, "f": True}}) == {
        "a": [None, 1.0, [None]],
        "b": {"c": None, "d": "x", "e": None, "f": True},
    }


def test_values_of_data_with_scales_do_not_depend_on_its_units(tmp_path):
    def in_units(dataset, factor, offset):
        values = TensorDataset(dataset.tensors[0] * factor + offset)
        values.scales = [3.0 * factor + offset] * 3, [factor] * 3
        return values

    def measured(factor, offset):
        real = ReferenceImages("real", in_units(vectors(1), factor, offset))
        training = ReferenceImages("training", in_units(vectors(2, 300), factor, offset))
        evaluator = prepared(tmp_path, reference=real, training=training)
        return evaluator.evaluate(in_units(vectors(3), factor, offset).tensors[0]).numbers()

    assert measured(64.0, 2.0**14) == pytest.approx(measured(1.0, 0.0), rel=1e-3)


@pytest.mark.parametrize("training_is_read", [True, False])
@pytest.mark.parametrize("attributes", [{"scales": ([5.0], [2.0])}, {"value_range": (1.0, 9.0)}])
def test_images_are_compared_in_the_scales_or_range_of_the_training_data(tmp_path, attributes, training_is_read):
    def source(seed, **attributes):
        values = vectors(seed)
        for name, value in attributes.items():
            setattr(values, name, value)
        return ReferenceImages("real", values)

    origin = SampleOrigin(
        training=source(2, **attributes) if training_is_read else None,
        sample_format=None if training_is_read else SampleFormat.of(torch.zeros(3), **attributes),
    )

    def measured(**other):
        evaluator = Evaluator({"b": Brightness()}, paths(tmp_path), source(1, **other), origin, count=100)
        list(evaluator.prepare())
        return evaluator.evaluate(normal(3, 100, 3)).numbers()

    assert measured(scales=([7.0] * 3, [11.0] * 3)) == measured(value_range=(-4.0, 40.0)) == measured(**attributes)
    assert measured() == measured(**attributes)


@pytest.mark.parametrize("shape", [(3, 6, 9), (1, 40, 33)])
def test_values_of_pictures_do_not_depend_on_their_bits(tmp_path, shape):
    def in_bits(seed, bits):
        images = torch.randint(0, 256, (80, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        values = TensorDataset(images if bits == 8 else images.float() * 257)
        if bits == 16:
            values.value_range = (0.0, 65535.0)
        return values

    def measured(bits, bits_of_samples):
        names = ("kid-random", "fd-random", "coverage-random")
        sources = [ReferenceImages("real", in_bits(seed, bits)) for seed in (1, 2)]
        evaluator = prepared(tmp_path, names, count=80, reference=sources[0], training=sources[1])
        return evaluator.evaluate(in_bits(3, bits_of_samples).tensors[0]).numbers()

    expected = pytest.approx(measured(8, 8), rel=1e-3, abs=1e-5)
    assert measured(16, 16) == expected
    assert measured(16, 8) == expected
