import pytest
import torch

from gancore.errors import DataError
from gancore_plugins.datasets.like_mnist import KMNIST, FashionMNIST
from gancore_plugins.datasets.published import RELEASES, Release
from helpers.http_servers import release_of, serving
from helpers.idx_files import NAMES, example, write

both = pytest.mark.parametrize(("kind", "folder"), [(FashionMNIST, "FashionMNIST"), (KMNIST, "KMNIST")])


@both
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_are_read_byte_for_byte(tmp_path, kind, folder, split, zipped):
    images, labels = example(4)
    write(tmp_path / folder / "raw", images, labels, split, zipped)
    dataset = kind(split=split).build(tmp_path)
    assert torch.equal(dataset.tensors[0], images.unsqueeze(1))
    assert torch.equal(dataset.tensors[1], labels.long())
    assert len(set(dataset.classes)) == 10
    assert not dataset.mirrors


@both
def test_the_parts_are_the_published_splits(kind, folder):
    assert kind().part("test") == kind(split="test")
    assert kind(split="test").part("train") == kind()
    assert kind.evaluation.gate


@both
def test_what_is_missing_is_downloaded_from_where_it_was_published(tmp_path, monkeypatch, kind, folder):
    write(tmp_path / "there", *example(3), zipped=True)
    with serving(tmp_path / "there", monkeypatch) as here:
        monkeypatch.setitem(RELEASES, folder, release_of(tmp_path / "there", here))
        shares = list(kind().prepare(tmp_path / "here"))
        assert shares == sorted(shares)
        assert shares[-1] == 1
    assert list(kind().prepare(tmp_path / "here")) == []
    assert len(kind().build(tmp_path / "here")) == 3
    assert {path.name for path in (tmp_path / "here" / folder / "raw").iterdir()} == {
        f"{name}.gz" for name in NAMES["train"]
    }


@both
def test_what_cannot_be_had_is_told_with_its_name(tmp_path, monkeypatch, kind, folder):
    monkeypatch.setitem(RELEASES, folder, Release((), {}))
    with pytest.raises(DataError, match=f"{folder} needs the files") as caught:
        kind().build(tmp_path / "here")
    assert f"into a folder {folder} in the one that --data-dir names" in caught.value.hint
    write(tmp_path / "there" / folder, *example(3))
    assert len(kind().build(tmp_path / "there")) == 3


@both
def test_files_of_mnist_are_not_taken_for_other_data_of_the_same_form(tmp_path, monkeypatch, kind, folder):
    monkeypatch.setitem(RELEASES, folder, Release((), {}))
    write(tmp_path, *example(3))
    write(tmp_path / "MNIST" / "raw", *example(3))
    with pytest.raises(DataError, match="needs the files"):
        kind().build(tmp_path)
