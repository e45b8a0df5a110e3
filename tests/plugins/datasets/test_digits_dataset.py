import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

from gancore_plugins.datasets.digits import Digits


def test_digits_has_1797_images_with_their_labels(tmp_path):
    images, labels = Digits().build(tmp_path / "absent").tensors
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_17_grays_are_scaled_to_0_to_255_and_rounded(tmp_path):
    images = Digits().build(tmp_path).tensors[0]
    assert images.unique().tolist() == [(value * 255 + 8) // 16 for value in range(17)]
    values = torch.from_numpy(load_digits().images)
    assert (images.squeeze(1) - values * 255 / 16).abs().max() <= 0.5


def test_digits_has_class_names_and_forms_batches(tmp_path):
    dataset = Digits().build(tmp_path)
    assert dataset.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    images, labels = next(iter(DataLoader(dataset, batch_size=5)))
    assert images.shape == (5, 1, 8, 8)
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_digits_writes_no_files(tmp_path):
    Digits().build(tmp_path)
    assert list(tmp_path.iterdir()) == []
