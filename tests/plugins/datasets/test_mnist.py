import socket

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore_plugins.datasets.mnist import MNIST
from gancore_plugins.datasets.published import RELEASES, Release
from helpers.http_servers import release_of, serving
from helpers.idx_files import NAMES, example, write

splits = pytest.mark.parametrize("split", ["train", "test"])


def failure(root, split="train"):
    with pytest.raises(DataError) as caught:
        MNIST(split=split).build(root)
    assert caught.value.hint
    return caught.value.message


@pytest.fixture
def offline(monkeypatch):
    """A mirror at a bound port that does not listen, so that every download is refused at once."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        monkeypatch.setitem(RELEASES, "MNIST", Release((address,), RELEASES["MNIST"].files))
        yield


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that a local server serves in place of the published files, after a mirror that has no files."""
    folder = tmp_path / "mirror"
    write(folder, *example(3), split="train", zipped=True)
    write(folder, *example(2), split="test", zipped=True)
    with serving(folder, monkeypatch) as address:
        monkeypatch.setitem(RELEASES, "MNIST", release_of(folder, f"{address}missing/", address))
        yield folder


@given(st.integers(1, 5), st.sampled_from(list(NAMES)), st.booleans(), st.sampled_from(["MNIST/raw", "MNIST", ""]))
def test_mnist_is_read_from_each_folder_plain_or_gzipped(tmp_path_factory, count, split, zipped, folder):
    root = tmp_path_factory.mktemp("data")
    images, labels = example(count)
    write(root / folder, images, labels, split, zipped)
    dataset = MNIST(split=split).build(root)
    assert len(dataset) == count
    assert dataset.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    for index, (image, label) in enumerate(dataset):
        assert image.dtype == torch.uint8
        assert label.dtype == torch.int64
        assert torch.equal(image, images[index].unsqueeze(0))
        assert label == labels[index]


def test_mnist_is_read_from_the_first_folder_with_both_files(tmp_path):
    write(tmp_path, *example(1))
    write(tmp_path / "MNIST", *example(2))
    assert len(MNIST().build(tmp_path)) == 2
    raw = tmp_path / "MNIST" / "raw"
    write(raw, *example(3))
    assert len(MNIST().build(tmp_path)) == 3
    (raw / NAMES["train"][1]).unlink()
    assert len(MNIST().build(tmp_path)) == 2


@splits
def test_mnist_missing_files_are_named_with_the_searched_folders(tmp_path, offline, split):
    message = failure(tmp_path, split)
    for part in (*NAMES[split], str(tmp_path / "MNIST" / "raw"), f"{tmp_path};", "refused"):
        assert part in message


def test_mnist_missing_files_hint_at_data_dir(tmp_path, offline):
    with pytest.raises(DataError) as caught:
        MNIST().build(tmp_path)
    assert "set --data-dir to their folder" in caught.value.hint
    write(tmp_path / "full", *example(3))
    assert len(MNIST().build(tmp_path / "full")) == 3


def test_mnist_root_that_cannot_be_created_is_an_error(tmp_path, offline):
    (tmp_path / "file").touch()
    assert "Not a directory" in failure(tmp_path / "file")


@splits
def test_mnist_missing_files_are_downloaded_once_and_stdout_stays_empty(tmp_path, mirror, capfd, monkeypatch, split):
    root = tmp_path / "new" / "root"
    count = len(MNIST(split=split).build(root))
    assert count == {"train": 3, "test": 2}[split]
    assert capfd.readouterr().out == ""
    raw = root / "MNIST" / "raw"
    assert sorted(file.name for file in raw.iterdir()) == sorted(f"{name}.gz" for name in NAMES[split])
    monkeypatch.setitem(RELEASES, "MNIST", Release((), {}))
    assert len(MNIST(split=split).build(root)) == count


def test_mnist_download_with_a_wrong_checksum_is_refused_and_removed(tmp_path, mirror):
    file = mirror / f"{NAMES['train'][1]}.gz"
    wrong = bytearray(file.read_bytes())
    wrong[-1] ^= 1
    file.write_bytes(wrong)
    assert "expected SHA-256" in failure(tmp_path)
    assert [file.name for file in (tmp_path / "MNIST" / "raw").iterdir()] == [f"{NAMES['train'][0]}.gz"]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("keep", [0, 3, 6, -1])
def test_mnist_empty_and_truncated_files_are_named(tmp_path, which, keep):
    write(tmp_path, *example(2))
    file = tmp_path / NAMES["train"][which]
    file.write_bytes(file.read_bytes()[:keep])
    assert str(file) in failure(tmp_path)


def test_mnist_images_and_labels_must_be_equal_in_number(tmp_path):
    write(tmp_path, example(4)[0], example(5)[1])
    message = failure(tmp_path)
    assert "4 images" in message
    assert "5 labels" in message


def test_mnist_without_images_is_refused(tmp_path):
    write(tmp_path, torch.zeros(0, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.uint8))
    assert "0 images" in failure(tmp_path)


@given(st.integers(0, 255))
def test_mnist_labels_are_in_0_to_9(tmp_path_factory, label):
    root = tmp_path_factory.mktemp("data")
    write(root, example(2)[0], torch.tensor([3, label], dtype=torch.uint8))
    if label <= 9:
        assert MNIST().build(root)[1][1] == label
    else:
        assert f"0..9; received {label}" in failure(root)


@pytest.mark.parametrize(("height", "width"), [(27, 28), (28, 29), (1, 784)])
def test_mnist_images_of_another_size_are_refused(tmp_path, height, width):
    write(tmp_path, torch.zeros(2, height, width, dtype=torch.uint8), example(2)[1])
    assert f"28x28 pixels; received {height}x{width}" in failure(tmp_path)


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("train", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("test", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_mnist_published_files_are_read(mnist_root, split, counts):
    images, labels = MNIST(split=split).build(mnist_root).tensors
    assert images.shape == (sum(counts), 1, 28, 28)
    assert labels.bincount().tolist() == counts
    assert images.double().mean() / 255 == pytest.approx(0.132, abs=0.002)
