from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont
from torch.utils.data import Dataset, TensorDataset

from gancore.data.feed import Feed
from gancore.errors import ConfigError
from gancore.sampling.sheet import _escaped, _font, _lacking, _name, can_draw, save_sheet, sheet

CPU = torch.device("cpu")


def feed(dataset, data="stream", seed=0):
    return Feed(dataset, batch_size=1, seed=seed, device=CPU, data=data)


def classes_of_one_color(counts, side=8):
    """A dataset of RGB images; those of class k have the red value 40 + k."""
    labels = torch.cat([torch.full((count,), number) for number, count in enumerate(counts)])
    images = torch.zeros(len(labels), 3, side, side, dtype=torch.uint8)
    images[:, 0] = (40 + labels).view(-1, 1, 1)
    images[:, 1], images[:, 2] = 250, 7
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    dataset = TensorDataset(images[order], labels[order])
    dataset.classes = [f"class {number}" for number in range(len(counts))]
    return dataset


def tops(drawn, red):
    """The rows of pixels where a color is."""
    pixels = np.asarray(drawn)
    return np.flatnonzero((pixels == np.array([red, 250, 7])).all(axis=2).any(axis=1))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(sum))
@settings(max_examples=25)
def test_sheet_has_the_classes_in_rows_in_the_order_of_their_numbers(counts):
    drawn = sheet(feed(classes_of_one_color(counts)))
    places = [tops(drawn, 40 + number) for number in range(len(counts))]
    assert [len(place) > 0 for place in places] == [count > 0 for count in counts]
    filled = [place for place in places if len(place)]
    assert all(before.max() < after.min() for before, after in pairwise(filled))


class OneByOne(Dataset):
    def __init__(self, tensors):
        self.items = tensors
        self.classes = tensors.classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_sheet_is_the_same_for_every_seed_and_wherever_the_data_is_kept():
    dataset = classes_of_one_color([20, 3, 9])
    drawn = sheet(feed(dataset)).tobytes()
    assert drawn == sheet(feed(dataset, "device", seed=7)).tobytes()
    assert drawn == sheet(feed(OneByOne(dataset))).tobytes() == sheet(feed(OneByOne(dataset), "device")).tobytes()


def test_sheet_shows_float_images_by_their_value_range():
    images = torch.linspace(0, 1, 16).repeat(4, 1).reshape(4, 1, 4, 4)
    dataset = TensorDataset(images)
    dataset.value_range = (0.0, 1.0)
    pixels = np.asarray(sheet(feed(dataset)).convert("L"))
    assert {0, 255} <= set(pixels.flatten().tolist())
    dataset.value_range = (-1.0, 1.0)  # the same values are gray to white
    assert 0 not in np.asarray(sheet(feed(dataset)).convert("L"))


def test_sheet_shows_a_picture_that_is_a_condition_left_of_the_sample():
    samples, conditions = (torch.full((3, 1, 16, 16), value, dtype=torch.uint8) for value in (0, 255))
    pixels = np.asarray(sheet(feed(TensorDataset(samples, conditions))).convert("L"))
    middle = pixels[len(pixels) // 2]
    assert np.flatnonzero(middle == 255)[0] < np.flatnonzero(middle == 0)[0]


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 8, 12), (4, 8, 8), (2, 8, 8), (3, 350, 450), (1, 2000, 3), (2, 50), (2,)]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_sheet_is_bounded_for_every_shape(shape, dtype):
    assert can_draw(shape)
    drawn = sheet(feed(TensorDataset(torch.ones(40, *shape).to(dtype))))
    assert 20 < drawn.width <= 2400
    assert 20 < drawn.height <= 2400


def test_sheet_of_many_classes_is_bounded_and_says_so():
    drawn = sheet(feed(classes_of_one_color([1] * 200, side=64)))
    assert drawn.height <= 2400
    assert len(tops(drawn, 40)) > 0
    assert len(tops(drawn, 39 + 200)) == 0


@pytest.mark.parametrize("data", ["stream", "device"])
def test_sheet_of_many_classes_shows_the_first_that_have_samples(data):
    counts = [0] * 30 + [2, 0, 3] + [0] * 20
    for dataset in (classes_of_one_color(counts), OneByOne(classes_of_one_color(counts))):
        drawn = sheet(feed(dataset, data))
        assert tops(drawn, 40 + 30).max() < tops(drawn, 40 + 32).min()


def test_sheet_reads_samples_in_chunks_to_find_their_classes(monkeypatch):
    read = []
    monkeypatch.setattr("gancore.data.feed._BYTES_PER_READ", 4 * 64 * 64)

    class Large(Dataset):
        classes = ("a", "b")
        image = torch.zeros(1, 64, 64, dtype=torch.uint8)

        def __len__(self):
            return 8

        def __getitem__(self, index):
            return self.image, index % 2

        def __getitems__(self, indices):
            read.append(len(indices))
            return [self[index] for index in indices]

    sheet(feed(Large()))
    assert sum(read) == 8 + 8
    assert max(read) == 4


def test_sheet_of_other_vectors_is_refused():
    assert not can_draw((3,))
    with pytest.raises(ConfigError, match=r"these samples have shape \(3,\)"):
        sheet(feed(TensorDataset(torch.zeros(9, 3))))


def test_sheet_is_written_completely_or_not_at_all(tmp_path):
    drawn = sheet(feed(classes_of_one_color([2, 2])))
    save_sheet(drawn, tmp_path / "new" / "a.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_label_has_no_boxes_for_characters_that_the_font_lacks():
    pillow = ImageFont.load_default(size=14)
    assert _escaped("caf\u00e9 \u732b!", pillow) == "caf\\xe9 \\u732b!"
    for name in ("cat", "cafe\u0301 \u0141\u00f3d\u017a", "\u732b", "\U0010ffff", ""):
        font = _font(_name(name))
        assert not _lacking(_escaped(_name(name), font), font)
    assert _font("cat").getname() == pillow.getname()


def test_sheet_draws_different_labels_for_names_beyond_ascii():
    dataset = classes_of_one_color([2])
    drawn = []
    for name in ("\u732b", "\u72ac"):
        dataset.classes = [name]
        drawn.append(np.asarray(sheet(feed(dataset))))
    assert drawn[0].shape != drawn[1].shape or (drawn[0] != drawn[1]).any()
