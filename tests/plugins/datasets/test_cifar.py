import io
import os
import tarfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore_plugins.datasets import cifar
from gancore_plugins.datasets.cifar import CIFAR10
from gancore_plugins.datasets.published import RELEASES, Release
from helpers.http_servers import release_of, serving

NAMES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
FOLDER = "cifar-10-batches-bin"


def records(count, seed=0):
    """Images (N, 3, 32, 32), labels (N,), and both as the bytes of a file."""
    dice = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=dice)
    labels = torch.randint(0, 10, (count,), generator=dice)
    data = b"".join(
        bytes([label]) + bytes(image.flatten().tolist()) for image, label in zip(images, labels, strict=True)
    )
    return images, labels, data


def write(folder, split="train", count=2):
    """All files of a split; images and labels of all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [records(count, seed) for seed, _ in enumerate(NAMES[split])]
    for name, (_, _, data) in zip(NAMES[split], parts, strict=True):
        (folder / name).write_bytes(data)
    return torch.cat([images for images, _, _ in parts]), torch.cat([labels for _, labels, _ in parts])


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setitem(RELEASES, "CIFAR10", Release((), {}))


def failure(root):
    with pytest.raises(DataError) as caught:
        CIFAR10().build(root)
    assert caught.value.hint
    return caught.value.message


@given(split=st.sampled_from(list(NAMES)), place=st.sampled_from([FOLDER, ""]), count=st.integers(1, 3))
def test_a_split_is_read_byte_for_byte_from_either_place(tmp_path_factory, split, place, count):
    root = tmp_path_factory.mktemp("data")
    images, labels = write(root / place, split, count)
    dataset = CIFAR10(split=split).build(root)
    assert torch.equal(dataset.tensors[0], images)
    assert torch.equal(dataset.tensors[1], labels)
    assert dataset.mirrors
    assert dataset.classes[:2] == ("airplane", "automobile")
    assert len(dataset.classes) == 10


@pytest.mark.parametrize("keep", [0, 1, 3072, 3074, -1])
def test_empty_and_truncated_files_are_named(tmp_path, keep):
    write(tmp_path)
    file = tmp_path / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file}: a file of CIFAR-10 holds" in failure(tmp_path)


def test_a_file_with_more_than_it_can_hold_is_refused(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(cifar, "_RECORDS", 1)
    assert "this one has 6146 bytes" in failure(tmp_path)


def test_labels_lie_in_0_to_9(tmp_path):
    write(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(bytes([10]) + bytes(3072))
    assert "0..9; received 10" in failure(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    write(tmp_path)
    (tmp_path / "data_batch_1.bin").unlink()
    os.mkfifo(tmp_path / "data_batch_1.bin")
    assert "data_batch_1.bin is not a regular file" in failure(tmp_path)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "data_batch_1.bin").unlink()
    (tmp_path / "data_batch_1.bin").mkdir()
    assert "cannot be read" in failure(tmp_path)


def test_what_is_missing_is_named_with_the_folders_looked_in_and_nothing_is_left_behind(tmp_path):
    root = tmp_path / "new"
    message = failure(root)
    for part in (*NAMES["train"], str(root / FOLDER), "binary release", "download failed"):
        assert part in message
    assert not root.exists()


def published(folder, without=()):
    """The archive of a small release, in the folder."""
    folder.mkdir()
    archive = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        for seed, name in enumerate([*NAMES["train"], *NAMES["test"], "readme.html"]):
            if name not in without:
                data = records(2, seed)[2]
                member = tarfile.TarInfo(f"{FOLDER}/{name}")
                member.size = len(data)
                members.addfile(member, io.BytesIO(data))


def test_what_is_missing_is_downloaded_and_its_files_taken_out_by_name(tmp_path, monkeypatch):
    published(tmp_path / "there")
    with serving(tmp_path / "there", monkeypatch) as here:
        monkeypatch.setitem(RELEASES, "CIFAR10", release_of(tmp_path / "there", here))
        dataset = CIFAR10().build(tmp_path / "here")
    assert torch.equal(dataset.tensors[0], torch.cat([records(2, seed)[0] for seed in range(5)]))
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [FOLDER]
    assert sorted(path.name for path in (tmp_path / "here" / FOLDER).iterdir()) == sorted(
        [*NAMES["train"], *NAMES["test"]]
    )
    assert len(CIFAR10(split="test").build(tmp_path / "here")) == 2


@pytest.mark.parametrize("damage", ["digest", "member"])
def test_a_download_that_is_not_what_it_should_be_leaves_nothing(tmp_path, monkeypatch, damage):
    published(tmp_path / "there", ["data_batch_2.bin"] if damage == "member" else [])
    with serving(tmp_path / "there", monkeypatch) as here:
        release = release_of(tmp_path / "there", here)
        if damage == "digest":
            ((name, (_, size)),) = release.files.items()
            release = Release(release.mirrors, {name: ("0" * 64, size)})
        monkeypatch.setitem(RELEASES, "CIFAR10", release)
        words = "its SHA-256 must be 000" if damage == "digest" else "holds no file"
        assert words in failure(tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_folder_that_was_there_before_a_download_in_vain_is_there_after_it(tmp_path):
    failure(tmp_path)
    assert list(tmp_path.iterdir()) == []
    failure(tmp_path / "new" / "root")
    assert list(tmp_path.iterdir()) == []
