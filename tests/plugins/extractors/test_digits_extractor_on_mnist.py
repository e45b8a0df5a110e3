"""The classifier of MNIST, learned for real: some minutes on one core, so all that takes it is in one test."""

import pytest
import torch

from gancore.config.run import read_dataset
from gancore.evaluation.defaults import evaluator_for_images
from gancore.evaluation.sources import ReferenceImages, reference_of
from gancore.evaluation.train_extractor import EvaluationPaths
from helpers.tiny_components import catalog

METRICS = ("fd-digits", "class-kl-digits", "coverage-digits")


@pytest.mark.long
@pytest.mark.mnist
def test_the_judge_of_mnist_passes_its_gate_and_sees_what_is_missing(mnist_root, tmp_path):
    place = EvaluationPaths(mnist_root, tmp_path, torch.device("cpu"))

    def measured(name, images, metrics):
        reference = ReferenceImages.of(reference_of(read_dataset(name, catalog()))[0], mnist_root)
        evaluator = evaluator_for_images(images, place, catalog(), metrics=metrics, reference=reference)
        said = [preparation.what for preparation in evaluator.prepare()]
        return evaluator.evaluate(images), said

    images, labels = ReferenceImages.of(read_dataset("mnist", catalog()), mnist_root).images.tensors
    whole, said = measured("mnist", images[:10_000], METRICS)
    distance = whole.results[0]
    assert "training extractor digits on mnist, 60,000 images, once" in said
    assert distance.about["extractor"]["accuracy"] >= 0.993
    assert distance.counts == {"generated": 10_000, "reference": 10_000}
    assert distance.real_data_counts == {"stand_ins": 10_000, "reference": 10_000}
    # Real images are at the floor: about D (D + 5) / 2N of standardized features, and what train and test differ by.
    assert 0.02 < distance.real_data.value < 0.25
    assert distance.measured.value < 2 * distance.real_data.value
    assert whole.numbers()["class-kl-digits"] < 0.002

    without, said = measured("mnist", images[labels != 8][:10_000], METRICS)
    assert not any("training" in what for what in said), "it is kept"
    assert without.numbers()["fd-digits"] > 5 * distance.measured.value
    assert without.numbers()["class-kl-digits.rarest_share"] < 0.01
    assert without.numbers()["coverage-digits"] < whole.numbers()["coverage-digits"] - 0.05

    triples = ReferenceImages.of(read_dataset("stacked-mnist", catalog()), mnist_root).draw(26_000, 1, "test")
    stacked, said = measured("stacked-mnist", triples, ("modes-digits",))
    assert not any("training" in what for what in said), "who reads mnist reads its stacks"
    assert stacked.numbers()["modes-digits"] == 1000
    assert stacked.numbers()["modes-digits.reverse_kl"] == pytest.approx(0.0236, abs=0.004)
