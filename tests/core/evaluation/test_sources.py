import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from gancore.errors import PluginError
from gancore.evaluation.sources import ReferenceImages, compared, reference_of
from gancore.utils.sample_format import SampleFormat, Scales
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.mixtures import Grid, Ring
from gancore_plugins.datasets.mnist import MNIST
from gancore_plugins.datasets.stacked_mnist import StackedMNIST
from helpers.tiny_components import Noise

SCALES = Scales((2,), (1.0, 2.0), (3.0, 4.0))


@pytest.mark.parametrize(
    ("dataset", "reference", "held_out"),
    [
        (MNIST(), MNIST(split="test"), True),
        (MNIST(split="test"), MNIST(split="test"), False),
        (StackedMNIST(seed=3), StackedMNIST(seed=3, split="test"), True),
        (Ring(modes=5), Ring(modes=5, split="test"), True),
        (Grid(split="test"), Grid(split="test"), False),
        (Digits(), Digits(), False),
        (Digits(split="train"), Digits(split="test"), True),
        (Noise(), Noise(), False),
    ],
    ids=str,
)
def test_reference_is_the_held_out_part_or_the_data_itself(dataset, reference, held_out):
    assert reference_of(dataset) == (reference, held_out)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_draw_returns_all_images_in_order_or_a_sample_without_repeats(count, limit, seed):
    source = ReferenceImages("numbers", TensorDataset(torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)))
    drawn = source.draw(limit, seed, "test").flatten().tolist()
    assert len(drawn) == min(count, limit)
    assert drawn == sorted(set(drawn))
    assert source.draw(limit, seed, "test").flatten().tolist() == drawn
    if limit >= count:
        assert drawn == list(range(count))


def test_draw_depends_on_seed_and_stream():
    source = ReferenceImages("numbers", TensorDataset(torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1)))
    draws = [tuple(source.draw(20, *stream).flatten().tolist()) for stream in ((0, "a"), (1, "a"), (0, "b"))]
    assert len(set(draws)) == 3


def test_dataset_that_cannot_be_built_is_a_plugin_error(tmp_path):
    class Broken(Noise):
        name = "broken"

        def build(self, root):
            raise RuntimeError("broken file")

    with pytest.raises(PluginError, match=r"dataset 'broken' failed in build\(\): RuntimeError: broken file"):
        ReferenceImages.of(Broken(), tmp_path)


def test_dataset_build_leaves_the_random_state_unchanged(tmp_path):
    class Drawing(Noise):
        name = "drawing"

        def build(self, root):
            torch.rand(3)
            return super().build(root)

    before = torch.get_rng_state()
    ReferenceImages.of(Drawing(), tmp_path)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("limit", [7, 100])
def test_images_larger_than_memory_are_drawn_as_others_are(monkeypatch, limit):
    source = ReferenceImages("real", TensorDataset(torch.arange(60, dtype=torch.uint8).reshape(30, 2)))
    drawn = source.draw(limit, 0, "stream")
    for module in ("gancore.evaluation.sources", "gancore.utils.large"):
        monkeypatch.setattr(f"{module}.MOST_IN_MEMORY", 0)
    monkeypatch.setattr("gancore.evaluation.sources._AT_ONCE", 4)
    assert torch.equal(source.draw(limit, 0, "stream"), drawn)


@pytest.mark.parametrize("sample_format", [SampleFormat("float32", (2.0, 5.0)), SampleFormat("float32", None, SCALES)])
def test_images_larger_than_memory_are_compared_as_others_are_in_parts(monkeypatch, sample_format):
    images, sizes = torch.rand(30, 2), []

    class Watched(SampleFormat):
        def comparable(self, stored):
            sizes.append(len(stored))
            return SampleFormat.comparable(self, stored)

    expected = sample_format.comparable(images)
    watched = Watched(sample_format.dtype, sample_format.value_range, sample_format.scales)
    for module in ("gancore.evaluation.sources", "gancore.utils.large"):
        monkeypatch.setattr(f"{module}.MOST_IN_MEMORY", 0)
    monkeypatch.setattr("gancore.evaluation.sources._AT_ONCE", 4)
    assert torch.equal(compared(images, watched), expected)
    assert max(sizes) == 4


def test_conditions_are_drawn_from_labels_without_reading_an_item():
    class Labeled(TorchDataset):
        classes, labels = ("a", "b"), [0, 1, 1]

        def __getitem__(self, index):
            raise AssertionError("an item is read")

        def __len__(self):
            return 3

    read = TensorDataset(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    drawn = ReferenceImages("real", Labeled()).draw_conditions(20, 0, "stream")
    assert torch.equal(drawn, ReferenceImages("real", read).draw_conditions(20, 0, "stream"))
