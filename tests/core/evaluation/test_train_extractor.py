import os

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gancore.checkpoint import store as checkpoint
from gancore.contracts import Dataset, EvaluationProtocol
from gancore.errors import ConfigError, DataError, PluginError
from gancore.evaluation.evaluator import Evaluator, SampleOrigin
from gancore.evaluation.features import FeatureExtractor, digest_of
from gancore.evaluation.sources import ReferenceImages
from gancore.evaluation.train_extractor import EvaluationPaths, load_extractor, train_extractor
from gancore.metrics import Features
from gancore.utils.sample_format import SampleFormat
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.extractors.classifier import ClassifierExtractor
from gancore_plugins.extractors.random import RandomExtractor
from gancore_plugins.extractors.self_supervised import SelfSupervisedExtractor
from gancore_plugins.metrics.frechet import FrechetDistance
from helpers.tiny_components import Noise

QUICK = ClassifierExtractor(epochs=3, batch_size=10)
SHAPE = (1, 8, 8)


class Stripes(Dataset):
    """Black and white rows and columns, which take moments to learn."""

    name = "stripes"
    evaluation = EvaluationProtocol(gate=0.9)
    split: str = "train"
    wrong_test_labels: bool = False
    mirrored: bool = False
    channels: int = 1

    def build(self, root):
        labels = torch.arange(200) % 2
        rows = (torch.arange(8) % 2 * 255).to(torch.uint8).repeat(8, 1)
        images = torch.stack([rows, rows.T])[labels].unsqueeze(1).repeat(1, self.channels, 1, 1)
        images = images.flip(3) if self.mirrored else images
        labels = 1 - labels if self.wrong_test_labels and self.split == "test" else labels
        dataset = TensorDataset(images, labels)
        dataset.classes = ("columns", "rows")
        return dataset

    def part(self, split):
        return self.model_copy(update={"split": split})


class Stacked(Stripes):
    """Three stripes as color channels."""

    name = "stacked-stripes"
    channels: int = 3

    def teacher(self):
        return Stripes()


class Floats(Stripes):
    """Stripes as float32 in a range."""

    name = "float-stripes"
    evaluation = EvaluationProtocol()

    def build(self, root):
        stripes = super().build(root)
        dataset = TensorDataset(stripes.tensors[0] / 255, stripes.tensors[1])
        dataset.classes, dataset.value_range = stripes.classes, (0.0, 1.0)
        return dataset


def loaded(extractor, dataset, folder, shape=SHAPE, steps=None, sample_format=None):
    """Return the loaded extractor, and all progress that was reported."""
    paths = EvaluationPaths(folder, folder / "cache", torch.device("cpu"))
    work = load_extractor(extractor, dataset, shape, 10, paths, sample_format)
    steps = [] if steps is None else steps
    while True:
        try:
            steps.append(next(work))
        except StopIteration as done:
            return done.value, steps


def cached(folder):
    (path,) = (folder / "cache" / "extractors").iterdir()
    return path


def test_extractor_is_trained_checked_cached_and_not_trained_again(tmp_path):
    first, steps = loaded(QUICK, Stripes(), tmp_path)
    assert first.accuracy == 1.0
    assert {step.what for step in steps} == {"training extractor classifier on stripes, 200 images, once"}
    shares = [step.done for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert first.digest != digest_of(first.module, {}), "includes the settings"
    assert not first.module.training

    before = cached(tmp_path).read_bytes()
    second, steps = loaded(QUICK, Stripes(), tmp_path)
    assert steps == []
    assert (second.digest, second.accuracy) == (first.digest, first.accuracy)
    assert cached(tmp_path).read_bytes() == before


def test_training_depends_on_the_seed_only(tmp_path):
    digests = [
        loaded(ClassifierExtractor(epochs=3, batch_size=10, seed=seed), Stripes(), tmp_path / str(number))[0].digest
        for number, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("damage", ["bit", "pickle"])
def test_damaged_cache_file_is_trained_again_with_a_warning_and_never_executed(tmp_path, damage):
    class Canary:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "canary"),))

    first, _ = loaded(QUICK, Stripes(), tmp_path)
    path = cached(tmp_path)
    if damage == "bit":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        torch.save({"x": Canary()}, path)
    second, steps = loaded(QUICK, Stripes(), tmp_path)
    assert not (tmp_path / "canary").exists()
    warnings = [step.warning for step in steps if step.warning]
    assert len(warnings) == 1
    assert path.name in warnings[0]
    assert "training classifier again" in warnings[0]
    assert second.digest == first.digest
    assert loaded(QUICK, Stripes(), tmp_path)[1] == []


@pytest.mark.parametrize(
    ("extractor", "dataset"),
    [
        (ClassifierExtractor(epochs=4, batch_size=10), Stripes()),
        (QUICK, Stripes(mirrored=True)),
        (QUICK, Stacked()),
    ],
)
def test_cache_file_differs_for_other_settings_and_other_data(tmp_path, extractor, dataset):
    loaded(QUICK, Stripes(), tmp_path)
    loaded(extractor, dataset, tmp_path, (dataset.channels, 8, 8))
    kept = list((tmp_path / "cache" / "extractors").iterdir())
    assert len(kept) == (1 if dataset.teacher() == Stripes() and extractor == QUICK else 2)


def test_extractor_is_trained_in_the_range_of_what_it_reads_later(tmp_path):
    def trained(sample_format):
        return loaded(QUICK, Floats(), tmp_path, sample_format=sample_format)[0].digest

    own = trained(None)
    assert trained(SampleFormat("float32", (0.0, 1.0))) == own
    assert trained(SampleFormat("uint8")) == own
    assert trained(SampleFormat("float32", (-1.0, 1.0))) != own


def test_extractor_of_an_evaluator_is_trained_in_the_range_of_the_training_data(tmp_path):
    class Wide(Floats):
        name = "wide-stripes"

        def build(self, root):
            dataset = super().build(root)
            dataset.value_range = (-9.0, 9.0)
            return dataset

    def prepared(training):
        sources = [ReferenceImages.of(dataset, tmp_path) for dataset in (Floats(), training)]
        paths = EvaluationPaths(tmp_path, tmp_path / "cache", torch.device("cpu"))
        metrics = {"fd": FrechetDistance(extractor=QUICK)}
        list(Evaluator(metrics, paths, sources[0], SampleOrigin(sources[1]), count=200).prepare())
        return set((tmp_path / "cache" / "extractors").iterdir())

    before = prepared(Floats())
    assert prepared(Floats()) == before
    assert len(prepared(Wide()) - before) == 1, "the reference stays as it is"


def test_accuracy_below_the_gate_is_rejected_without_training_again(tmp_path):
    for attempt in range(2):
        steps = []
        with pytest.raises(PluginError, match=r"at least 90.0% of the held-out images of stripes.*it reaches 0.00%"):
            loaded(QUICK, Stripes(wrong_test_labels=True), tmp_path, steps=steps)
        assert bool(steps) == (attempt == 0), "the second time from the cache"


def test_accuracy_on_digits_is_high(tmp_path):
    extractor, _ = loaded(ClassifierExtractor(), Digits(), tmp_path)
    assert extractor.accuracy >= 0.97


@pytest.mark.parametrize(
    ("dataset", "words"),
    [(None, "the reference is no dataset"), (Noise(shape=(1, 8, 8)), "dataset 'noise' has no classes")],
)
def test_training_needs_labels(tmp_path, dataset, words):
    with pytest.raises(ConfigError, match=words):
        loaded(QUICK, dataset, tmp_path)


def test_extractor_for_images_rejects_vectors(tmp_path):
    with pytest.raises(ConfigError, match="received vectors of shape"):
        loaded(QUICK, Noise(shape=(7,), labeled=True), tmp_path, (7,))


@pytest.mark.parametrize(
    ("dataset", "shape"), [(Stripes(), (1, 9, 9)), (Stripes(channels=3), (1, 8, 8)), (Stacked(), (3, 8, 4))]
)
def test_image_shape_is_checked_before_training(tmp_path, dataset, shape):
    steps = []
    with pytest.raises(ConfigError, match="is trained on stripes, whose images have shape"):
        loaded(QUICK, dataset, tmp_path, shape, steps=steps)
    assert steps == []


class Untrainable(ClassifierExtractor):
    """Builds modules that cannot be trained."""

    name = "untrainable"
    how: str = "no-logits"

    def build(self, shape, num_classes, root):
        return {"no-logits": NoLogits(), "one-class": OneClass(), "no-parameters": NoParameters()}[self.how]


class NoLogits(nn.Module):
    def forward(self, images):
        return Features(images.flatten(1).float())


class OneClass(nn.Module):
    def forward(self, images):
        return Features(images.flatten(1).float(), torch.zeros(len(images), 1))


class NoParameters(nn.Module):
    def forward(self, images):
        return Features(images.flatten(1).float(), torch.zeros(len(images), 2))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no-logits", "K = 2 classes of stripes; 'untrainable' returned none"),
        ("one-class", r"shape \(4, 1\)"),
        ("no-parameters", "parameters"),
    ],
)
def test_module_that_cannot_be_trained_is_rejected_before_training(tmp_path, how, words):
    with pytest.raises(PluginError, match=words):
        loaded(Untrainable(how=how), Stripes(), tmp_path)


class Unlabeled(SelfSupervisedExtractor):
    """Learns without labels, with logits of a fixed number of classes, or without logits."""

    name = "unlabeled"
    classes: int = 0

    def build(self, shape, num_classes, root):
        return Fixed(self.classes)


class Fixed(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.classes, self.layer = classes, nn.Linear(64, max(classes, 1))

    def forward(self, images):
        features = images.flatten(1).float()
        return Features(features, self.layer(features) if self.classes else None)


@pytest.mark.parametrize(("classes", "returned"), [(0, "returned none"), (2, r"returned shape \(10, 2\)")])
def test_module_that_learns_without_labels_must_compare_its_images(tmp_path, classes, returned):
    with pytest.raises(PluginError, match=rf"logits \(N, N\) in training mode, here N = 10; 'unlabeled' {returned}"):
        loaded(Unlabeled(classes=classes, batch_size=10), Stripes(), tmp_path)


def test_labels_outside_of_the_classes_are_rejected(tmp_path):
    class Counting(Stripes):
        name = "counting"

        def build(self, root):
            dataset = super().build(root)
            dataset.tensors = (dataset.tensors[0], dataset.tensors[1] + 1)
            return dataset

    with pytest.raises(DataError, match=r"labels must be in 0..1.*received 1..2"):
        loaded(QUICK, Counting(), tmp_path)


def test_edition_change_trains_again(tmp_path):
    class Revised(ClassifierExtractor):
        edition = 2

    loaded(QUICK, Stripes(), tmp_path)
    _, steps = loaded(Revised(epochs=3, batch_size=10), Stripes(), tmp_path)
    assert steps
    assert len(list((tmp_path / "cache" / "extractors").iterdir())) == 2


def test_cache_file_not_written_by_an_extractor_is_rejected(tmp_path):
    loaded(QUICK, Stripes(), tmp_path)
    path = cached(tmp_path)
    for about in ({}, {"accuracy": "much"}, {"accuracy": [1]}):
        checkpoint.save(path, checkpoint.load(path).tensors, about)
        assert "was not written by an extractor" in loaded(QUICK, Stripes(), tmp_path)[1][0].warning


def test_cached_weights_of_another_network_are_not_loaded(tmp_path):
    first, _ = loaded(QUICK, Stripes(), tmp_path)
    path = cached(tmp_path)
    saved = checkpoint.load(path)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in saved.tensors.items()}
    tensors["classes.weight"] = torch.zeros(3, 64)
    checkpoint.save(path, tensors, {"accuracy": 1.0})
    second, steps = loaded(QUICK, Stripes(), tmp_path)
    assert "has the weights of another network" in steps[0].warning
    assert second.digest == first.digest


def test_extractor_trained_on_one_channel_reads_colors_channel_by_channel(tmp_path):
    extractor, _ = loaded(QUICK, Stacked(), tmp_path, (3, 8, 8))
    images = Stacked().build(tmp_path).tensors[0][:2]
    read = extractor.read(images)
    assert read.features.shape == (2, 3 * 64)
    assert read.logits.argmax(dim=1).tolist() == [0, 7]  # (0, 0, 0) and (1, 1, 1) in base 2


def test_cache_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "cache").write_text("a file instead of a folder")
    extractor, steps = loaded(QUICK, Stripes(), tmp_path)
    assert extractor.accuracy == 1.0
    assert [step.warning for step in steps if step.warning] == [steps[-1].warning]
    assert "cannot be cached" in steps[-1].warning


def test_training_and_building_leave_the_random_state_unchanged(tmp_path):
    before = torch.get_rng_state()
    loaded(QUICK, Stripes(), tmp_path)
    loaded(RandomExtractor(), None, tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_training_does_not_depend_on_random_numbers_drawn_between_steps():
    items = Stripes().build(None)
    digests = []
    for draws in (0, 1):
        module = QUICK.build(SHAPE, 2, None)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(0.01)
        for _ in train_extractor(module, *items.tensors, QUICK, torch.device("cpu")):
            torch.rand(draws)
        digests.append(digest_of(module, {}))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("accuracy", "gate"), [(None, None), (0.95, 0.9)])
def test_result_names_a_gate_only_where_an_accuracy_was_measured(accuracy, gate):
    described = FeatureExtractor("mine", torch.nn.Identity(), torch.device("cpu"), "digest", accuracy, 0.9).describe()
    assert described == {"name": "mine", "sha256": "digest", "accuracy": accuracy, "gate": gate}
