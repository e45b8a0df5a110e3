import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from gancore.contracts import Findings
from gancore.data.feed import Feed
from gancore.data.summary import class_line, read_contents, summarize
from gancore_plugins.datasets.digits import Digits

CPU = torch.device("cpu")
files = st.dictionaries(st.sampled_from(["PNG", "JPEG", "hidden", ".heic (no decoder)"]), st.lists(st.just("a")))


def labeled(labels, classes, values=None):
    """A dataset of 1x1 images, filled with `values`, by default with their labels."""
    pixels = torch.tensor(labels if values is None else values, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    dataset = TensorDataset(pixels, torch.tensor(labels))
    dataset.classes = [f"c{number}" for number in range(classes)]
    return dataset


class Streamed(Dataset):
    """A dataset that gives its items one by one; with `labels`, also all labels at once."""

    def __init__(self, tensors, *, labels=None):
        self.tensors_, self.classes = tensors, tensors.classes
        if labels is not None:
            self.labels = labels

    def __len__(self):
        return len(self.tensors_)

    def __getitem__(self, index):
        image, label = self.tensors_[index]
        return image, int(label)


def feed(dataset, data="stream"):
    return Feed(dataset, batch_size=1, seed=0, device=CPU, data=data)


def contents_of(dataset):
    reading = read_contents(feed(dataset))
    shares = []
    while True:
        try:
            shares.append(next(reading))
        except StopIteration as done:
            assert shares == sorted(shares)
            assert shares[-1] == 1
            return done.value


some_labels = st.integers(1, 5).flatmap(
    lambda classes: st.tuples(st.lists(st.integers(0, classes - 1), min_size=1, max_size=60), st.just(classes))
)


@given(some_labels)
def test_class_counts_add_up_in_the_order_of_the_labels_however_they_are_found(case):
    labels, classes = case
    dataset = labeled(labels, classes)
    expected = tuple(labels.count(number) for number in range(classes))
    assert contents_of(dataset).counts == contents_of(Streamed(dataset)).counts == expected
    assert feed(dataset).class_counts == feed(Streamed(dataset), "device").class_counts == expected
    assert feed(Streamed(dataset, labels=labels)).class_counts == expected
    assert feed(Streamed(dataset, labels=np.array(labels, np.int32))).class_counts == expected
    assert feed(Streamed(dataset)).class_counts is None  # they would have to be read
    summary = summarize(feed(dataset), Digits())
    assert [entry["name"] for entry in summary.to_data()["classes"]] == dataset.classes
    assert sum(entry["count"] for entry in summary.to_data()["classes"]) == len(labels) == summary.items


@given(st.lists(st.integers(0, 255), min_size=1, max_size=80))
def test_copies_are_all_groups_of_equal_samples(values):
    contents = contents_of(labeled([0] * len(values), 1, values))
    groups = {value: [place for place, other in enumerate(values) if other == value] for value in values}
    assert contents.copies == sorted(group for group in groups.values() if len(group) > 1)
    assert contents.extra == len(values) - len(set(values))
    assert (contents.lowest, contents.highest) == (min(values), max(values))


def test_contents_are_read_in_chunks_of_bounded_size():
    image = torch.zeros(1, 1024, 1024, dtype=torch.uint8)

    class Large(Dataset):
        def __len__(self):
            return 160

        def __getitem__(self, index):
            return image

    assert len(list(read_contents(feed(Large())))) == 3  # 160 MiB in chunks of 64


@given(files, files)
def test_findings_in_words_count_every_file(used, skipped):
    line = Findings(used, skipped).in_words()
    for key, names in [*used.items(), *skipped.items()]:
        assert f"{len(names)} {key}" in line
    assert ("used" in line) == bool(used)
    assert ("skipped:" in line) == bool(skipped)


def test_findings_in_words_have_the_largest_numbers_first():
    used = {"JPEG": ["a"], "PNG": ["a"] * 3722}
    skipped = {"hidden": ["a"] * 3, ".heic (no decoder)": ["a"] * 12}
    assert Findings(used, skipped).in_words() == ("3,722 PNG, 1 JPEG used; skipped: 12 .heic (no decoder), 3 hidden")


def test_findings_in_words_say_parts_of_files_apart():
    skipped = {"missing values left out": ["line 2, a", "line 3, b"], "hidden": ["a"]}
    assert Findings({"CSV": ["a"]}, skipped).in_words() == "1 CSV used; skipped: 1 hidden; 2 missing values left out"


def test_class_line_names_the_first_classes_in_their_order():
    assert class_line(["b", "a"], [10_000, 2]) == "2: b (10,000), a (2)"
    assert class_line(["b", "a"], None) == "2: b, a"
    assert class_line([f"c{number}" for number in range(40)], None).endswith("c11, and 28 more")


@pytest.mark.parametrize("data", ["stream", "device"])
@pytest.mark.parametrize(
    "labels", [None, [0, 1], [0, 1, 2.5], [0, 1, 7], ["a", "b", "c"], [[0], [1, 2], 3], KeyError("labels")]
)
def test_attribute_labels_of_another_meaning_is_not_used(labels, data):
    class Streaming(Streamed):
        @property
        def labels(self):
            if isinstance(labels, Exception):
                raise labels
            return labels

    source = feed(Streaming(labeled([0, 1, 2], 3)), data)
    assert source.class_counts == ((1, 1, 1) if data == "device" else None)
    assert [len(samples) for _, samples, _ in source.examples(3, 2)] == [1, 1, 1]


def test_summary_names_the_part_that_is_held_out_only_for_the_training_part():
    built = feed(Digits(split="train").build(None))
    assert summarize(built, Digits(split="train")).held_out == "the test part"
    assert summarize(built, Digits()).held_out is None


@pytest.mark.parametrize(
    ("plain", "channels", "transparent"), [(1, 3, True), (2, 3, False), (60, 3, True), (60, 4, True)]
)
def test_summary_warns_of_pictures_of_one_color(plain, channels, transparent):
    pixels = torch.randint(0, 255, (200, channels, 3, 2), dtype=torch.uint8)
    pixels[:, :, 0, 0] = 255  # so that no picture has one color by chance
    pixels[:plain] = 255
    dataset = TensorDataset(pixels)
    findings = Findings(facts={"transparency": "60 of 200"} if transparent else {})
    warnings = summarize(feed(dataset), Digits(), findings, contents_of(dataset)).warnings()
    if plain == 1:
        assert warnings == []
        return
    (warning,) = warnings  # that equal pictures are copies is the same fault
    assert warning.startswith(f"{plain} of 200 pictures have one color and nothing else: ")
    assert ("dataset.channels=4" in warning) is (transparent and channels == 3)


def test_summary_counts_copies_of_pictures_of_many_colors_exactly():
    pixels = torch.randint(0, 255, (400, 1, 3, 2), dtype=torch.uint8)
    pixels[:, :, 0, 0] = 255
    pixels[:90] = torch.arange(90, dtype=torch.uint8).view(-1, 1, 1, 1)  # 90 colors, and one of them twice
    pixels[89] = 0
    pixels[300:] = pixels[100:200]  # 100 copies
    dataset = TensorDataset(pixels)
    contents = contents_of(dataset)
    assert (contents.plain, contents.plain_copies, contents.extra) == (90, 1, 101)
    warnings = summarize(feed(dataset), Digits(), None, contents).warnings()
    assert [warning.partition(" of")[0] for warning in warnings] == ["90", "100"]


def test_summary_warns_of_small_unbalanced_and_repeated_data():
    balanced = list(range(200))
    clean = labeled([number % 2 for number in balanced], 2, balanced)
    assert summarize(feed(clean), Digits(), None, contents_of(clean)).warnings() == []
    few = labeled([0, 1] * 40, 2)
    warnings = summarize(feed(few), Digits(), None, contents_of(few)).warnings()
    assert [warning.split(":")[0] for warning in warnings] == [
        "the dataset has only 80 samples, which a GAN can memorize",
        "78 of 80 samples are exact copies of others, so they count several times",
    ]
    (advice, _), (augmented, _) = (
        summarize(feed(few), Digits(), None, contents_of(few)).warnings(augmented=augmented)
        for augmented in (False, True)
    )
    assert advice.endswith(": use more data, or an augmentation (gancore list augmentation)")
    assert augmented.endswith(": use more data")
    unbalanced = labeled([0] * 189 + [1] * 11, 2, balanced)
    (warning,) = summarize(feed(unbalanced), Digits()).warnings()
    assert "189 of c0, 11 of c1" in warning
    assert summarize(feed(unbalanced), Digits()).warnings(conditional=False) == []
    assert summarize(feed(labeled([0] * 190 + [1] * 19, 2, [*balanced, *range(9)])), Digits()).warnings() == []
