"""The extractor `classifier` trained on MNIST: some minutes on one core, so one test checks all that needs it."""

import pytest
import torch

from gancore.config.run import read_dataset
from gancore.evaluation.defaults import evaluator_for_images
from gancore.evaluation.sources import ReferenceImages, reference_of
from gancore.evaluation.train_extractor import EvaluationPaths
from helpers.tiny_components import catalog

METRICS = ("fd-classifier", "class-kl-classifier", "coverage-classifier")


@pytest.mark.long
@pytest.mark.mnist
def test_classifier_extractor_on_mnist_passes_its_gate_and_detects_missing_digits(mnist_root, tmp_path):
    paths = EvaluationPaths(mnist_root, tmp_path, torch.device("cpu"))

    def measured(name, images, metrics):
        reference = ReferenceImages.of(reference_of(read_dataset(name, catalog()))[0], mnist_root)
        evaluator = evaluator_for_images(images, paths, catalog(), metrics=metrics, reference=reference)
        preparations = [preparation.what for preparation in evaluator.prepare()]
        return evaluator.evaluate(images), preparations

    images, labels = ReferenceImages.of(read_dataset("mnist", catalog()), mnist_root).images.tensors
    whole, preparations = measured("mnist", images[:10_000], METRICS)
    distance = whole.results[0]
    assert "training extractor classifier on mnist, 60,000 images, once" in preparations
    assert distance.about["extractor"]["accuracy"] >= 0.993
    assert distance.counts == {"generated": 10_000, "reference": 10_000}
    assert distance.floor_counts == {"stand_ins": 10_000, "reference": 10_000}
    # Real images are at the floor: about D (D + 5) / 2N for standardized features, plus the train-test difference.
    assert 0.02 < distance.real_data.value < 0.25
    assert distance.measured.value < 2 * distance.real_data.value
    assert whole.numbers()["class-kl-classifier"] < 0.002

    without_8, preparations = measured("mnist", images[labels != 8][:10_000], METRICS)
    assert not any("training extractor" in what for what in preparations), "the trained extractor is cached"
    assert without_8.numbers()["fd-classifier"] > 5 * distance.measured.value
    assert without_8.numbers()["class-kl-classifier.rarest_share"] < 0.01
    assert without_8.numbers()["coverage-classifier"] < whole.numbers()["coverage-classifier"] - 0.05

    triples = ReferenceImages.of(read_dataset("stacked-mnist", catalog()), mnist_root).draw(26_000, 1, "test")
    stacked, preparations = measured("stacked-mnist", triples, ("modes-classifier",))
    assert not any("training extractor" in what for what in preparations), "mnist and stacked-mnist use one extractor"
    assert stacked.numbers()["modes-classifier"] == 1000
    assert stacked.numbers()["modes-classifier.reverse_kl"] == pytest.approx(0.0236, abs=0.004)
