import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore.catalog.catalog import Catalog
from gancore.config.from_path import dataset_for
from gancore.errors import DataError
from gancore.evaluation.read_images import read_conditions, read_images, warnings_of
from gancore.sampling.write import save_samples
from gancore.utils.sample_format import SampleFormat
from gancore_plugins.datasets.folder import Folder
from gancore_plugins.datasets.paired import Paired
from helpers.deep_pictures import png16


def picture(path, color=0, mode="L", size=(5, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path.parent


def zipped(folder):
    return shutil.make_archive(str(folder), "zip", folder)


@given(st.sampled_from([1, 3, 4]), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=15)
def test_read_images_reads_back_saved_samples(tmp_path_factory, channels, height, width, count, seed):
    folder = tmp_path_factory.mktemp("samples")
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    for name in ("pictures", "array.npy", "array.safetensors"):
        save_samples(images, folder / name)
    for path in (folder / "pictures", zipped(folder / "pictures"), folder / "array.npy", folder / "array.safetensors"):
        assert torch.equal(read_images(path, (channels, height, width)), images), path


@pytest.mark.parametrize("size", [(5, 4), (28, 28), (100, 70)])
def test_read_images_keeps_the_size_that_pictures_have(tmp_path, size):
    for number in range(3):
        picture(tmp_path / f"{number}.png", number, size=size)
    assert read_images(tmp_path).shape == (3, 1, size[1], size[0])


def test_read_images_reads_pictures_of_several_sizes_at_the_size_of_most(tmp_path):
    sizes = [(20, 20), (20, 20), (20, 20), (40, 30)]
    for number, size in enumerate(sizes):
        picture(tmp_path / f"{number}.png", number, size=size)
    assert read_images(tmp_path).shape == (4, 1, 20, 20)
    dataset = dataset_for(tmp_path, Catalog.installed())
    list(dataset.prepare(tmp_path.parent / "cache"))
    (warning,) = warnings_of(dataset, tmp_path, tmp_path.parent / "cache")
    assert warning.startswith(f"1 images of {tmp_path} are resized: ")
    assert "20x20 to 40x30" in warning


def test_read_images_reads_vectors_as_float32_in_their_units(tmp_path):
    values = np.arange(6, dtype=np.float64).reshape(3, 2) / 7 + 100
    np.save(tmp_path / "v.npy", values)
    assert torch.equal(read_images(tmp_path / "v.npy"), torch.tensor(values).float())


def test_read_images_reads_gray_stored_as_color_as_gray_if_expected(tmp_path):
    picture(tmp_path / "a.png", (9, 9, 9), "RGB")
    assert read_images(tmp_path).shape == (1, 3, 4, 5)
    assert read_images(tmp_path, (1, 4, 5)).tolist() == torch.full((1, 1, 4, 5), 9).tolist()
    assert read_images(picture(tmp_path / "gray" / "b.png", 7), (3, 4, 5)).shape == (1, 3, 4, 5)


def test_read_images_reads_what_is_larger_than_memory_into_a_file(tmp_path, monkeypatch):
    values = np.arange(60, dtype=np.uint8).reshape(15, 1, 2, 2)
    np.save(tmp_path / "a.npy", values)
    for module in ("gancore.evaluation.sources", "gancore.utils.large"):
        monkeypatch.setattr(f"{module}.MOST_IN_MEMORY", 0)
    images = read_images(tmp_path / "a.npy")
    assert np.array_equal(images, values)
    assert images.untyped_storage().filename


def test_read_images_leaves_labels_out(tmp_path):
    for number in range(4):
        picture(tmp_path / f"class{number % 2}" / f"{number}.png", number)
    assert read_images(tmp_path).shape == (4, 1, 4, 5)


def test_skipped_files_are_said(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("")
    dataset = dataset_for(tmp_path, Catalog.installed())
    list(dataset.prepare(tmp_path.parent / "cache"))
    (warning,) = warnings_of(dataset, tmp_path, tmp_path.parent / "cache")
    assert warning.startswith(f"{tmp_path}: 1 PNG used; skipped: ")


def test_files_are_decoded_with_the_settings_of_the_run(tmp_path):
    picture(tmp_path / "a.png", 5, size=(8, 4))
    run = Folder(path="elsewhere", size=4, channels=1, fit="pad", on_error="skip", labels="labels.csv")
    dataset = dataset_for(tmp_path, Catalog.installed(), (1, 4, 4), run)
    assert (dataset.path, dataset.fit, dataset.on_error) == (str(tmp_path), "pad", "skip")
    assert (dataset.size, dataset.channels, dataset.labels) == (4, 1, None)
    assert dataset_for(tmp_path, Catalog.installed(), (1, 4, 4), Paired(path="elsewhere", fit="pad")).fit == "crop"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "no pictures in"),
        (lambda folder: (folder / "a.png").write_bytes(b""), "a.png"),
        (lambda folder: (folder / "a.txt").write_text(""), "no dataset reads"),
    ],
)
def test_folder_without_a_readable_picture_is_refused(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(DataError, match=words):
        read_images(tmp_path)


def test_path_without_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder"):
        read_images(tmp_path / "a.npy")


def test_read_images_never_executes_a_pickle(tmp_path):
    class Canary:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "canary"),))

    path = tmp_path / "a.npy"
    np.save(path, np.array([Canary()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        read_images(path)
    assert not (tmp_path / "canary").exists()


def conditions(path, shape):
    return read_conditions(dataset_for(path, shape=shape), path, shape)


def test_conditions_are_read_from_arrays_pictures_and_folders(tmp_path):
    values = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.save(tmp_path / "all.npy", values)
    assert torch.equal(conditions(tmp_path / "all.npy", (2,)), torch.tensor(values).float())
    for number in range(2):
        picture(tmp_path / "folder" / f"{number}.png", 10 * number, size=(3, 2))
    pictures = conditions(tmp_path / "folder", (1, 2, 3))
    assert pictures.dtype == torch.uint8
    assert pictures.flatten(1)[:, 0].tolist() == [0, 10]
    assert torch.equal(conditions(tmp_path / "folder" / "1.png", (1, 2, 3)), pictures[1:])


@pytest.mark.parametrize("limits", [None, (0.0, 26214.0)])
def test_conditions_with_16_bits_are_mapped_as_inputs_of_pairs(tmp_path, limits):
    for place in ("inputs", "targets"):
        (tmp_path / "pairs" / place).mkdir(parents=True)
        (tmp_path / "pairs" / place / "1.png").write_bytes(png16(np.full((1, 2, 2), 13107, np.uint16)))
    pairs = Paired(path=str(tmp_path / "pairs"), size=2, channels=1, value_range=limits)
    ((_, expected),) = pairs.build(tmp_path / "root")
    picture(tmp_path / "low.png", 51, size=(2, 2))  # 13107 / 257
    for path in (tmp_path / "pairs" / "inputs" / "1.png", tmp_path / "low.png"):
        given_ = read_conditions(dataset_for(path, shape=(1, 2, 2)), path, (1, 2, 2), like=pairs)
        seen = SampleFormat.of(given_[0]).to_network(given_) if given_.dtype == torch.uint8 else given_
        assert torch.allclose(seen[0], expected, atol=1e-6)


def test_conditions_of_another_shape_are_refused(tmp_path):
    np.save(tmp_path / "wrong.npy", np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"conditions must have shape \(N, 2\); .* holds \(3, 3\)"):
        conditions(tmp_path / "wrong.npy", (2,))


@pytest.mark.parametrize("name", ["conditions.pt", "conditions"])
def test_conditions_in_a_file_of_another_format_are_refused(tmp_path, name):
    torch.save(torch.zeros(3, 2), tmp_path / name)
    with pytest.raises(DataError):
        conditions(tmp_path / name, (2,))
