import pytest
import torch

from gancore.errors import DataError
from gancore_plugins.datasets.mnist import KMNIST, FashionMNIST
from gancore_plugins.datasets.published import RELEASES, Release
from helpers.http_servers import release_of, serving
from helpers.idx_files import NAMES, example, write

both_datasets = pytest.mark.parametrize(("kind", "folder"), [(FashionMNIST, "FashionMNIST"), (KMNIST, "KMNIST")])


@both_datasets
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_like_files_are_read_byte_for_byte(tmp_path, kind, folder, split, zipped):
    images, labels = example(4)
    write(tmp_path / folder / "raw", images, labels, split, zipped)
    dataset = kind(split=split).build(tmp_path)
    assert torch.equal(dataset.tensors[0], images.unsqueeze(1))
    assert torch.equal(dataset.tensors[1], labels.long())
    assert len(set(dataset.classes)) == 10
    assert not dataset.mirrors


@both_datasets
def test_mnist_like_parts_are_the_published_splits(kind, folder):
    assert kind().part("test") == kind(split="test")
    assert kind(split="test").part("train") == kind()
    assert kind.evaluation.gate


@both_datasets
def test_mnist_like_missing_files_are_downloaded(tmp_path, monkeypatch, kind, folder):
    write(tmp_path / "remote", *example(3), zipped=True)
    with serving(tmp_path / "remote", monkeypatch) as address:
        monkeypatch.setitem(RELEASES, folder, release_of(tmp_path / "remote", address))
        shares = list(kind().prepare(tmp_path / "local"))
        assert shares == sorted(shares)
        assert shares[-1] == 1
    assert list(kind().prepare(tmp_path / "local")) == []
    assert len(kind().build(tmp_path / "local")) == 3
    assert {path.name for path in (tmp_path / "local" / folder / "raw").iterdir()} == {
        f"{name}.gz" for name in NAMES["train"]
    }


@both_datasets
def test_mnist_like_missing_files_that_cannot_be_downloaded_are_named(tmp_path, monkeypatch, kind, folder):
    monkeypatch.setitem(RELEASES, folder, Release((), {}))
    with pytest.raises(DataError, match=f"{folder} needs the files") as caught:
        kind().build(tmp_path / "empty")
    assert f"set --data-dir to a folder that has them in {folder}/" in caught.value.hint
    write(tmp_path / "full" / folder, *example(3))
    assert len(kind().build(tmp_path / "full")) == 3


@both_datasets
def test_mnist_files_are_not_taken_for_other_datasets(tmp_path, monkeypatch, kind, folder):
    monkeypatch.setitem(RELEASES, folder, Release((), {}))
    write(tmp_path, *example(3))
    write(tmp_path / "MNIST" / "raw", *example(3))
    with pytest.raises(DataError, match="needs the files"):
        kind().build(tmp_path)
