import os

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gancore.checkpoint import store as checkpoint
from gancore.contracts import Dataset, EvaluationProtocol
from gancore.errors import ConfigError, DataError, PluginError
from gancore.evaluation.features import digest_of
from gancore.evaluation.train_extractor import EvaluationPaths, learn, open_reader
from gancore.metrics import Features
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.extractors.digits import DigitsExtractor
from gancore_plugins.extractors.random import RandomExtractor
from helpers.tiny_components import Noise

QUICK = DigitsExtractor(epochs=3, batch_size=10)
SHAPE = (1, 8, 8)


class Stripes(Dataset):
    """Rows and columns of black and white, learned in moments."""

    name = "stripes"
    evaluation = EvaluationProtocol(gate=0.9)
    split: str = "train"
    lies: bool = False
    mirrored: bool = False
    channels: int = 1

    def build(self, root):
        labels = torch.arange(200) % 2
        rows = (torch.arange(8) % 2 * 255).to(torch.uint8).repeat(8, 1)
        images = torch.stack([rows, rows.T])[labels].unsqueeze(1).repeat(1, self.channels, 1, 1)
        images = images.flip(3) if self.mirrored else images
        told = 1 - labels if self.lies and self.split == "test" else labels
        dataset = TensorDataset(images, told)
        dataset.classes = ("columns", "rows")
        return dataset

    def part(self, split):
        return self.model_copy(update={"split": split})


class Stacked(Stripes):
    """Three of them as colors."""

    name = "stacked-stripes"
    channels: int = 3

    def teacher(self):
        return Stripes()


def opened(extractor, dataset, folder, shape=SHAPE, said=None):
    """The reader, and all that was said while it was opened."""
    work = open_reader(extractor, dataset, shape, 10, EvaluationPaths(folder, folder / "cache", torch.device("cpu")))
    said = [] if said is None else said
    while True:
        try:
            said.append(next(work))
        except StopIteration as done:
            return done.value, said


def cached(folder):
    (path,) = (folder / "cache" / "extractors").iterdir()
    return path


def test_what_was_learned_is_checked_kept_and_not_learned_again(tmp_path):
    first, said = opened(QUICK, Stripes(), tmp_path)
    assert first.accuracy == 1.0
    assert {each.what for each in said} == {"digits learns to read stripes, 200 images, once"}
    shares = [each.done for each in said]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert first.digest != digest_of(first.module, {}), "of its settings too"
    assert not first.module.training

    before = cached(tmp_path).read_bytes()
    second, said = opened(QUICK, Stripes(), tmp_path)
    assert said == []
    assert (second.digest, second.accuracy) == (first.digest, first.accuracy)
    assert cached(tmp_path).read_bytes() == before


def test_the_same_seed_teaches_the_same_and_another_one_another(tmp_path):
    digests = [
        opened(DigitsExtractor(epochs=3, batch_size=10, seed=seed), Stripes(), tmp_path / str(number))[0].digest
        for number, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "text"])
def test_a_damaged_file_is_refused_and_learned_anew_with_a_warning(tmp_path, damage):
    first, _ = opened(QUICK, Stripes(), tmp_path)
    path = cached(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"bit": bytes(content), "cut": content[:-9], "empty": b"", "text": b"{}"}[damage])
    second, said = opened(QUICK, Stripes(), tmp_path)
    warnings = [each.warning for each in said if each.warning]
    assert len(warnings) == 1
    assert path.name in warnings[0]
    assert "digits learns anew" in warnings[0]
    assert second.digest == first.digest
    assert opened(QUICK, Stripes(), tmp_path)[1] == []


@pytest.mark.parametrize(
    ("extractor", "dataset"),
    [
        (DigitsExtractor(epochs=4, batch_size=10), Stripes()),
        (QUICK, Stripes(mirrored=True)),
        (QUICK, Stacked()),
    ],
)
def test_other_settings_and_other_data_are_learned_apart(tmp_path, extractor, dataset):
    opened(QUICK, Stripes(), tmp_path)
    opened(extractor, dataset, tmp_path, (dataset.channels, 8, 8))
    kept = list((tmp_path / "cache" / "extractors").iterdir())
    assert len(kept) == (1 if dataset.teacher() == Stripes() and extractor == QUICK else 2)


def test_whoever_fails_the_gate_is_no_judge_and_need_not_learn_again_to_fail(tmp_path):
    for attempt in range(2):
        said = []
        with pytest.raises(PluginError, match=r"at least 90.0% of the held-out images of stripes.*it names 0.00%"):
            opened(QUICK, Stripes(lies=True), tmp_path, said=said)
        assert bool(said) == (attempt == 0), "the second time it is known"


def test_real_digits_are_learned_well_enough(tmp_path):
    reader, _ = opened(DigitsExtractor(), Digits(), tmp_path)
    assert reader.accuracy >= 0.97


@pytest.mark.parametrize(
    ("dataset", "words"),
    [(None, "compared with none"), (Noise(shape=(1, 8, 8)), "dataset 'noise' has none")],
)
def test_without_labels_there_is_nothing_to_learn_from(tmp_path, dataset, words):
    with pytest.raises(ConfigError, match=words):
        opened(QUICK, dataset, tmp_path)


def test_vectors_are_not_read_by_a_network_for_images(tmp_path):
    with pytest.raises(ConfigError, match="received vectors of shape"):
        opened(QUICK, Noise(shape=(7,), labeled=True), tmp_path, (7,))


@pytest.mark.parametrize(
    ("dataset", "shape"), [(Stripes(), (1, 9, 9)), (Stripes(channels=3), (1, 8, 8)), (Stacked(), (3, 8, 4))]
)
def test_images_of_another_shape_than_were_learned_are_told_before_anything_is(tmp_path, dataset, shape):
    said = []
    with pytest.raises(ConfigError, match="learns from stripes, whose images have shape"):
        opened(QUICK, dataset, tmp_path, shape, said=said)
    assert said == []


class Odd(DigitsExtractor):
    """Builds what cannot learn."""

    name = "odd"
    how: str = "silent"

    def build(self, shape, num_classes, root):
        return {"silent": Silent(), "short": Short(), "fixed": Fixed()}[self.how]


class Silent(nn.Module):
    def forward(self, images):
        return Features(images.flatten(1).float())


class Short(nn.Module):
    def forward(self, images):
        return Features(images.flatten(1).float(), torch.zeros(len(images), 1))


class Fixed(nn.Module):
    def forward(self, images):
        return Features(images.flatten(1).float(), torch.zeros(len(images), 2))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("silent", "K = 2 classes of stripes; 'odd' returned none"),
        ("short", r"shape \(4, 1\)"),
        ("fixed", "parameters"),
    ],
)
def test_a_network_that_cannot_learn_is_told_before_it_tries(tmp_path, how, words):
    with pytest.raises(PluginError, match=words):
        opened(Odd(how=how), Stripes(), tmp_path)


def test_labels_that_are_no_classes_are_told(tmp_path):
    class Counting(Stripes):
        name = "counting"

        def build(self, root):
            dataset = super().build(root)
            dataset.tensors = (dataset.tensors[0], dataset.tensors[1] + 1)
            return dataset

    with pytest.raises(DataError, match=r"labels must be in 0..1.*received 1..2"):
        opened(QUICK, Counting(), tmp_path)


def test_a_new_edition_learns_anew(tmp_path):
    class Revised(DigitsExtractor):
        edition = 2

    opened(QUICK, Stripes(), tmp_path)
    _, said = opened(Revised(epochs=3, batch_size=10), Stripes(), tmp_path)
    assert said
    assert len(list((tmp_path / "cache" / "extractors").iterdir())) == 2


def test_a_sound_file_that_no_extractor_wrote_is_no_memory(tmp_path):
    opened(QUICK, Stripes(), tmp_path)
    path = cached(tmp_path)
    for about in ({}, {"accuracy": "much"}, {"accuracy": [1]}):
        checkpoint.save(path, checkpoint.load(path).tensors, about)
        assert "was not written by an extractor" in opened(QUICK, Stripes(), tmp_path)[1][0].warning


def test_weights_of_another_network_leave_no_trace(tmp_path):
    first, _ = opened(QUICK, Stripes(), tmp_path)
    path = cached(tmp_path)
    saved = checkpoint.load(path)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in saved.tensors.items()}
    tensors["classes.weight"] = torch.zeros(3, 64)
    checkpoint.save(path, tensors, {"accuracy": 1.0})
    second, said = opened(QUICK, Stripes(), tmp_path)
    assert "learned by another network" in said[0].warning
    assert second.digest == first.digest


def test_colors_are_read_channel_by_channel_by_who_learned_one(tmp_path):
    reader, _ = opened(QUICK, Stacked(), tmp_path, (3, 8, 8))
    images = Stacked().build(tmp_path).tensors[0][:2]
    read = reader.read(images)
    assert read.features.shape == (2, 3 * 64)
    assert read.logits.argmax(dim=1).tolist() == [0, 7]  # (0, 0, 0) and (1, 1, 1) to the base of 2


def test_where_nothing_can_be_kept_it_is_told_and_goes_on(tmp_path):
    (tmp_path / "cache").write_text("a file, where a folder should be")
    reader, said = opened(QUICK, Stripes(), tmp_path)
    assert reader.accuracy == 1.0
    assert [each.warning for each in said if each.warning] == [said[-1].warning]
    assert "cannot be kept" in said[-1].warning


def test_learning_and_building_leave_the_random_state_alone(tmp_path):
    before = torch.get_rng_state()
    opened(QUICK, Stripes(), tmp_path)
    opened(RandomExtractor(), None, tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_a_reader_that_draws_between_two_steps_changes_nothing():
    items = Stripes().build(None)
    digests = []
    for draws in (0, 1):
        module = QUICK.build(SHAPE, 2, None)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(0.01)
        for _ in learn(module, *items.tensors, QUICK, torch.device("cpu")):
            torch.rand(draws)
        digests.append(digest_of(module, {}))
    assert digests[0] == digests[1]


def test_nothing_in_a_cached_file_is_executed(tmp_path):
    opened(QUICK, Stripes(), tmp_path)
    path = cached(tmp_path)

    class Canary:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "canary"),))

    torch.save({"x": Canary()}, path)
    _, said = opened(QUICK, Stripes(), tmp_path)
    assert "learns anew" in next(each.warning for each in said if each.warning)
    assert not (tmp_path / "canary").exists()
