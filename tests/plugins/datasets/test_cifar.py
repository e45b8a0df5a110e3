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
    """Return images (N, 3, 32, 32), labels (N,), and both as the bytes of a file."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=rng)
    labels = torch.randint(0, 10, (count,), generator=rng)
    data = b"".join(
        bytes([label]) + bytes(image.flatten().tolist()) for image, label in zip(images, labels, strict=True)
    )
    return images, labels, data


def write(folder, split="train", count=2):
    """Write all files of a split; return the images and labels of all of them."""
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


@given(split=st.sampled_from(list(NAMES)), folder=st.sampled_from([FOLDER, ""]), count=st.integers(1, 3))
def test_cifar10_is_read_byte_for_byte_from_both_folders(tmp_path_factory, split, folder, count):
    root = tmp_path_factory.mktemp("data")
    images, labels = write(root / folder, split, count)
    dataset = CIFAR10(split=split).build(root)
    assert torch.equal(dataset.tensors[0], images)
    assert torch.equal(dataset.tensors[1], labels)
    assert dataset.mirrors
    assert dataset.classes[:2] == ("airplane", "automobile")
    assert len(dataset.classes) == 10


@pytest.mark.parametrize("keep", [0, 1, 3072, 3074, -1])
def test_cifar10_empty_and_truncated_files_are_named(tmp_path, keep):
    write(tmp_path)
    file = tmp_path / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file}: a file of CIFAR-10 holds" in failure(tmp_path)


def test_cifar10_file_with_too_many_records_is_refused(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(cifar, "_RECORDS", 1)
    assert "this one has 6146 bytes" in failure(tmp_path)


def test_cifar10_labels_are_in_0_to_9(tmp_path):
    write(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(bytes([10]) + bytes(3072))
    assert "0..9; received 10" in failure(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_cifar10_refuses_a_pipe_without_waiting_for_its_writer(tmp_path):
    write(tmp_path)
    (tmp_path / "data_batch_1.bin").unlink()
    os.mkfifo(tmp_path / "data_batch_1.bin")
    assert "data_batch_1.bin is not a regular file" in failure(tmp_path)


def test_cifar10_refuses_a_folder_in_place_of_a_file(tmp_path):
    write(tmp_path)
    (tmp_path / "data_batch_1.bin").unlink()
    (tmp_path / "data_batch_1.bin").mkdir()
    assert "cannot be read" in failure(tmp_path)


def test_cifar10_missing_files_are_named_and_no_folder_is_left(tmp_path):
    root = tmp_path / "new"
    message = failure(root)
    for part in (*NAMES["train"], str(root / FOLDER), "binary release", "download failed"):
        assert part in message
    assert not root.exists()


def published(folder, without=()):
    """Write the archive of a small release to the folder."""
    folder.mkdir()
    archive = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        for seed, name in enumerate([*NAMES["train"], *NAMES["test"], "readme.html"]):
            if name not in without:
                data = records(2, seed)[2]
                member = tarfile.TarInfo(f"{FOLDER}/{name}")
                member.size = len(data)
                members.addfile(member, io.BytesIO(data))


def test_cifar10_download_keeps_only_the_files_that_it_needs(tmp_path, monkeypatch):
    published(tmp_path / "remote")
    with serving(tmp_path / "remote", monkeypatch) as address:
        monkeypatch.setitem(RELEASES, "CIFAR10", release_of(tmp_path / "remote", address))
        dataset = CIFAR10().build(tmp_path / "local")
    assert torch.equal(dataset.tensors[0], torch.cat([records(2, seed)[0] for seed in range(5)]))
    assert sorted(path.name for path in (tmp_path / "local").iterdir()) == [FOLDER]
    assert sorted(path.name for path in (tmp_path / "local" / FOLDER).iterdir()) == sorted(
        [*NAMES["train"], *NAMES["test"]]
    )
    assert len(CIFAR10(split="test").build(tmp_path / "local")) == 2


@pytest.mark.parametrize("damage", ["digest", "member"])
def test_cifar10_damaged_download_leaves_no_files(tmp_path, monkeypatch, damage):
    published(tmp_path / "remote", ["data_batch_2.bin"] if damage == "member" else [])
    with serving(tmp_path / "remote", monkeypatch) as address:
        release = release_of(tmp_path / "remote", address)
        if damage == "digest":
            ((name, (_, size)),) = release.files.items()
            release = Release(release.mirrors, {name: ("0" * 64, size)})
        monkeypatch.setitem(RELEASES, "CIFAR10", release)
        words = "expected SHA-256 000" if damage == "digest" else "does not contain"
        assert words in failure(tmp_path / "local")
    assert not (tmp_path / "local").exists()


def test_cifar10_failed_download_keeps_an_existing_folder(tmp_path):
    failure(tmp_path)
    assert list(tmp_path.iterdir()) == []
    failure(tmp_path / "new" / "root")
    assert list(tmp_path.iterdir()) == []
