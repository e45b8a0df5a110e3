import os
import pickle
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from gancore.data.feed import Feed
from gancore.data.items import read_items
from gancore.errors import DataError
from gancore_plugins.datasets.array import Array
from gancore_plugins.datasets.array_layout import LAYOUTS

GREY = (1, 6, 5)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def npy(path, values):
    np.save(path, values)
    return path


def hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


WRITERS = {
    ".npz": npz,
    ".h5": hdf5,
    ".safetensors": lambda path, **arrays: (save_file(arrays, path), path)[1],
    " packed.npz": lambda path, **arrays: (np.savez_compressed(path, **arrays), path)[1],
}


def samples(path, **fields):
    """All samples of a file, and their conditions."""
    return read_items(Array(path=str(path), **fields).build(path.parent))


def failure(path, **fields):
    with pytest.raises(DataError) as caught:
        Array(path=str(path), **fields).build(path.parent)
    assert caught.value.hint
    return caught.value.message


@given(st.sampled_from(list(WRITERS)), st.integers(0, 99), st.sampled_from(["u1", "f4", "f8", "i8"]))
@settings(max_examples=30)
def test_array_reads_images_and_labels_of_every_format(tmp_path_factory, suffix, seed, dtype):
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 200, (7, 3, 5, 6)).astype(dtype), np.arange(7) % 3
    path = WRITERS[suffix](tmp_path_factory.mktemp("arrays") / f"a{suffix}", images=images, labels=labels)
    dataset = Array.from_path(path)
    read, found = read_items(dataset.build(path.parent))
    assert torch.equal(read, torch.from_numpy(images if dtype == "u1" else images.astype("f4")))
    assert found.tolist() == labels.tolist()
    assert dataset.outline().items == 7
    assert dataset.outline().shape == (3, 5, 6)
    assert dataset.outline().classes == ("0", "1", "2")


@given(st.sampled_from(list(LAYOUTS)), st.integers(0, 99))
@settings(max_examples=30)
def test_array_of_any_layout_becomes_channels_first(tmp_path_factory, layout, seed):
    axes = [axis for axis in LAYOUTS[layout] if axis is not None]
    canonical = np.random.default_rng(seed).integers(0, 255, [4, *range(2, 2 + len(axes) - 1)], np.uint8)
    path = npy(tmp_path_factory.mktemp("arrays") / "a.npy", np.transpose(canonical, np.argsort(axes)))
    read, _ = samples(path, layout=layout)
    expected = torch.from_numpy(canonical)
    assert torch.equal(read, expected.unsqueeze(1) if None in LAYOUTS[layout] else expected)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((9, 8), "f4", (8,)),
        ((9, 28, 28), "f4", (1, 28, 28)),
        ((9, 3, 100), "f4", (3, 100)),
        ((9, 100, 3), "f4", (3, 100)),
        ((9, 3, 100), "u1", (1, 3, 100)),
        ((9, 32, 32, 3), "u1", (3, 32, 32)),
        ((9, 3, 32, 32), "u1", (3, 32, 32)),
        ((9, 12, 32, 32), "f4", (12, 32, 32)),
        ((9, 32, 32, 12), "f4", (12, 32, 32)),
        ((9, 20, 20, 20), "f4", (1, 20, 20, 20)),
        ((9, 2, 20, 20, 20), "f4", (2, 20, 20, 20)),
        ((9, 20, 20, 20, 2), "f4", (2, 20, 20, 20)),
    ],
)
def test_array_layout_is_found_by_the_shape(tmp_path, shape, dtype, expected):
    path = npy(tmp_path / "a.npy", np.arange(np.prod(shape)).reshape(shape).astype(dtype))
    dataset = Array.from_path(path)
    assert dataset.outline().shape == expected == tuple(dataset.build(tmp_path)[0].shape)
    assert "by its shape" in dataset.findings(tmp_path).facts["array"]


def test_array_layout_follows_the_shape_that_samples_must_have(tmp_path):
    series = npy(tmp_path / "a.npy", np.random.default_rng(0).random((5, 3, 100)))
    assert Array.from_path(series).outline().shape == (3, 100)
    assert Array.from_path(series, (1, 3, 100)).outline().shape == (1, 3, 100)


def test_array_of_gray_images_stored_as_color_is_gray_if_expected(tmp_path):
    gray = np.full((2, 6, 5, 3), 9, np.uint8)
    path = npy(tmp_path / "a.npy", gray)
    assert Array.from_path(path, GREY).build(tmp_path)[1].shape == GREY
    assert Array.from_path(path).build(tmp_path)[1].shape == (3, 6, 5)
    gray[1, 0, 0, 1] = 8
    path = npy(tmp_path / "a.npy", gray)
    assert "image 1 of" in failure(path, gray=True)


def test_value_range_is_measured_in_the_training_part_or_declared(tmp_path):
    images = np.random.default_rng(0).random((40, 1, 6, 6))
    images[3] = 5.0
    path = npy(tmp_path / "a.npy", images)
    built = Array(path=str(path)).build(tmp_path)
    assert built.value_range == (float(images.min().astype("f4")), 5.0)
    assert "0 to 5" in Array(path=str(path), value_range=(0, 5)).findings(tmp_path).facts["values"]
    assert Array(path=str(path), value_range=(0, 5)).build(tmp_path).value_range == (0.0, 5.0)
    parts = [Array(path=str(path), holdout=0.5, split=split).build(tmp_path) for split in ("train", "test")]
    assert len(parts[0]) + len(parts[1]) == 40
    assert parts[0].value_range == parts[1].value_range
    assert parts[0].value_range[1] == max(float(image.max()) for image in parts[0])


def test_sixteen_bit_images_lose_no_bits(tmp_path):
    images = np.arange(2 * 256 * 128, dtype=np.uint16).reshape(2, 256, 128)
    read, _ = samples(npy(tmp_path / "a.npy", images))
    assert torch.equal(read[:, 0].to(torch.int32), torch.from_numpy(images.astype(np.int32)))


def test_booleans_become_black_and_white(tmp_path):
    read, _ = samples(npy(tmp_path / "a.npy", np.array([[[True, False]]])))
    assert read.tolist() == [[[[255, 0]]]]


def test_vectors_are_standardized_unless_that_is_switched_off(tmp_path):
    values = np.random.default_rng(0).normal([0, 5e4, 7], [1, 1e3, 0], (500, 3))
    path = npy(tmp_path / "a.npy", values)
    feed = Feed(Array(path=str(path)).build(tmp_path), batch_size=500, seed=0, device=torch.device("cpu"))
    seen = next(feed.batches(0)).images
    assert seen.mean(dim=0).abs().max() < 1e-2
    assert torch.allclose(seen.std(dim=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-2)
    noise = feed.format.to_stored(torch.randn(100, 3))
    assert (noise[:, 2] - 7).abs().max() < 1e-3, "a constant value stays what it is"
    for fields in ({"standardize": False}, {"value_range": (0, 1e5)}):
        assert not hasattr(Array(path=str(path), **fields).build(tmp_path), "scales")


def test_held_out_rows_have_the_scales_of_the_training_rows(tmp_path):
    path = npy(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(50, 2)))
    dataset = Array(path=str(path), holdout=0.3)
    train, test = dataset.part("train"), dataset.part("test")
    assert train == dataset
    assert train.build(tmp_path).scales == test.build(tmp_path).scales
    rows = torch.cat([read_items(part.build(tmp_path))[0] for part in (train, test)])
    assert sorted(rows.tolist()) == sorted(samples(path)[0].tolist())
    assert (train.outline().items, test.outline().items) == tuple(len(part.build(tmp_path)) for part in (train, test))
    assert Array(path=str(path)).part("test") is None


def test_rows_that_are_not_finite_are_named_or_left_out(tmp_path):
    values = np.random.default_rng(0).normal(size=(100, 2))
    values[[4, 17], 1] = np.nan, 1e300
    path = npy(tmp_path / "a.npy", values)
    assert failure(path).endswith("are not finite as float32: 4; 17")
    dataset = Array(path=str(path), on_error="skip")
    assert len(dataset.build(tmp_path)) == 98
    assert dataset.findings(tmp_path).skipped == {"unreadable, not finite": ["row 4", "row 17"]}


def test_large_array_is_measured_once_with_progress(tmp_path, monkeypatch):
    monkeypatch.setattr("gancore_plugins.datasets.array_measure._CACHED", 0)
    monkeypatch.setattr("gancore_plugins.datasets.array_measure._CHUNK", 800)
    path = npy(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(100, 2)))
    dataset = Array(path=str(path))
    progress = list(dataset.prepare(tmp_path))
    assert progress == sorted(progress)
    assert (len(progress), progress[-1]) == (2, 1.0)
    assert list(dataset.prepare(tmp_path)) == []
    assert dataset.build(tmp_path).scales == dataset.build(tmp_path / "elsewhere").scales
    npy(path, np.ones((100, 2)) * np.arange(2))
    assert dataset.build(tmp_path).scales[0] == [0.0, 1.0]


def test_array_larger_than_memory_is_read_row_by_row(tmp_path):
    path = tmp_path / "a.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (300_000, 3, 64, 64)).flush()  # 3.7 GB without a block on the disk
    tracemalloc.start()
    built = Array.from_path(path).build(tmp_path)
    assert built[299_999].shape == (3, 64, 64)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", WRITERS)
def test_workers_open_the_file_themselves(tmp_path, suffix):
    path = WRITERS[suffix](tmp_path / f"a{suffix}", images=np.zeros((2000, 8, 8), np.uint8))
    built = Array(path=str(path)).build(tmp_path)
    built[0]
    assert len(pickle.dumps(built)) < 60_000
    feed = Feed(built, batch_size=50, seed=0, device=torch.device("cpu"), data="stream", workers=2)
    assert next(feed.batches(0)).images.shape == (50, 1, 8, 8)


@pytest.mark.parametrize(
    ("labels", "fields", "classes", "expected"),
    [
        (np.array([5, 9, 5, 7]), {}, ("5", "7", "9"), [0, 2, 0, 1]),
        (np.array([[1], [0], [1], [0]]), {}, ("0", "1"), [1, 0, 1, 0]),
        (np.array(["k10", "k2", "k10", "k1"]), {}, ("k1", "k2", "k10"), [2, 1, 2, 0]),
        (np.array([1.0, 0.0, 1.0, 1.0]), {}, ("0", "1"), [1, 0, 1, 1]),
        (np.array(["b", "a", "b", "b"]), {"class_names": ("c", "b", "a")}, ("c", "b", "a"), [1, 2, 1, 1]),
        (np.array([1, 0, 1, 1]), {"class_names": ("a", "b", "c")}, ("a", "b", "c"), [1, 0, 1, 1]),
    ],
    ids=str,
)
def test_labels_are_numbers_or_text(tmp_path, labels, fields, classes, expected):
    path = npz(tmp_path / "a.npz", images=np.zeros((4, 2, 2), np.uint8), labels=labels)
    built = Array(path=str(path), **fields).build(tmp_path)
    assert built.classes == classes
    assert [label for _, label in built] == expected == built.labels.tolist()


def test_class_names_must_name_all_labels(tmp_path):
    images = np.zeros((4, 2, 2), np.uint8)
    path = npz(tmp_path / "a.npz", images=images, labels=np.array(["cat", "dog", "owl", "cat"]))
    assert failure(path, class_names=("cat", "bird")).endswith("has labels that class_names lacks: dog; owl")
    path = npz(path, images=images, labels=np.array([0, 1, 2, 0]))
    assert "labels must be in 0..1 for 2 class names" in failure(path, class_names=("cat", "bird"))
    path = npz(path, images=images, labels=np.linspace(0, 1, 4))
    assert "class_names need labels that are integers or text" in failure(path, class_names=("cat", "bird"))


@pytest.mark.parametrize("labels", [np.linspace(0, 1, 4), np.eye(4, 2), np.arange(8).reshape(4, 2)], ids=str)
def test_labels_that_are_no_classes_are_conditions(tmp_path, labels):
    path = npz(tmp_path / "a.npz", images=np.zeros((4, 2, 2), np.uint8), labels=labels)
    _, conditions = samples(path, labels="labels")
    assert torch.equal(conditions, torch.from_numpy(labels.astype("f4").reshape(4, -1)))


def test_names_of_classes_and_columns_are_read_from_the_file(tmp_path):
    path = npz(
        tmp_path / "a.npz",
        x=np.random.default_rng(0).normal(size=(4, 2)),
        y=np.array([1, 0, 1, 1]),
        class_names=np.array(["cat", "dog"]),
        columns=np.array(["age", "income"]),
        masks=np.zeros(3),
    )
    built = Array.from_path(path).build(tmp_path)
    assert (built.classes, built.columns) == (("cat", "dog"), ("age", "income"))
    found = Array.from_path(path).findings(tmp_path)
    assert (found.used, found.skipped) == ({"npz": ["a.npz"]}, {"arrays left out": ["masks (3,)"]})
    assert found.in_words() == "1 npz used; 1 arrays left out"
    assert (found.facts["array"].split()[0], found.facts["labels"]) == ("x", "array y, 2 classes")


def test_names_of_classes_without_effect_are_reported(tmp_path):
    images, names = np.zeros((4, 2, 2), np.uint8), np.array(["cat", "dog"])
    path = npz(tmp_path / "a.npz", images=images, labels=np.array(["a", "b", "b", "a"]), class_names=names)
    dataset = Array.from_path(path)
    assert dataset.build(tmp_path).classes == ("a", "b")
    assert dataset.findings(tmp_path).skipped == {"arrays left out": ["class_names (2,)"]}


def test_array_that_must_be_named_is_read_when_it_is(tmp_path):
    path = npz(tmp_path / "two.npz", a=np.zeros((4, 3, 5, 5), np.uint8), b=np.ones((4, 3, 6, 6), np.uint8))
    for shape in (None, (3, 5, 5)):
        found = Array.from_path(path, shape)
        with pytest.raises(DataError, match="no one is called images") as caught:
            found.outline()
        assert caught.value.hint == "--set dataset.images=NAME"
        assert found.model_copy(update={"images": "a"}).outline().shape == (3, 5, 5)


@pytest.mark.parametrize(
    ("name", "labels", "noted"),
    [
        ("labels", np.zeros(3, int), "'labels' is not used as the labels: it has length 3, and 'images' has 4"),
        ("y", np.array(1), "'y' is not used as the labels: it has no length, and 'images' has 4"),
        ("labels", np.zeros(4, int), None),
        ("weights", np.zeros(3), None),
    ],
)
def test_labels_of_another_length_are_noted(tmp_path, name, labels, noted):
    path = npz(tmp_path / "a.npz", images=np.full((4, 2, 2), 9, np.uint8), **{name: labels})
    assert Array(path=str(path)).findings(tmp_path).notes == ([f"array {noted}"] if noted else [])


def truncated(path):
    npy(path, np.zeros((9, 1, 4, 4), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])


def with_header(header):
    """Return a function that writes a .npy file with this text as header, and two bytes of data."""

    def make(path):
        text = header.encode() + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"ab")

    return make


def oversized(path):
    """Write a header that declares an exabyte."""
    npy(path, np.zeros(9, np.uint8))
    path.write_bytes(path.read_bytes().replace(b"(9,)", b"(1000000000000000000,)").replace(b" " * 19 + b"\n", b"\n", 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, ["does not exist"]),
        (lambda path: path.write_bytes(b""), ["cannot be read as npy", "nothing"]),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>"), ["it begins with 3c 21"]),
        (lambda path: path.write_bytes(b"\x80\x04K\x01."), ["cannot be read"]),
        (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), ["cannot be read"]),
        (lambda path: npy(path, np.zeros((0, 1, 4, 4), np.uint8)), ["at least one sample", "(0, 1, 4, 4)"]),
        (lambda path: npy(path, np.zeros((3, 0, 4, 4), np.uint8)), ["at least one value", "(3, 0, 4, 4)"]),
        (lambda path: npy(path, np.zeros(7)), ["(N, C, H, W)", "(7,)"]),
        (lambda path: npy(path, np.zeros((2, 3, 4, 5, 6, 7))), ["(N, C, D, H, W)", "(2, 3, 4, 5, 6, 7)"]),
        (lambda path: npy(path, np.zeros((2, 8, 8, 8))), ["second axis or the last"]),
        (lambda path: npy(path, np.zeros((2, 2), complex)), ["real numbers", "complex128"]),
        (lambda path: npy(path, np.array([["a"]])), ["real numbers", "<U1"]),
        (lambda path: npy(path, np.ones((4, 2, 2))), ["all values", "are 1"]),
        (lambda path: npy(path, np.array([{}, []], dtype=object)), ["Python objects"]),
        (truncated, ["1 bytes are missing"]),
        (oversized, ["cannot be read"]),
        (with_header("(" * 500), ["cannot be read"]),
        (with_header("-" * 9000 + "1"), ["cannot be read"]),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (2L,)}"), ["a.npy"]),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}"), ["a.npy"]),
        (with_header("{'descr': 'M8[s', 'fortran_order': False, 'shape': (2,)}"), ["cannot be read"]),
    ],
)
def test_array_error_gives_the_file_and_the_reason(tmp_path, make, words):
    path = tmp_path / "a.npy"
    make(path)
    message = failure(path)
    assert all(word in message for word in ["a.npy", *words]), message


def test_array_never_executes_a_pickle(tmp_path):
    class Canary:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "canary"),))

    for path in (tmp_path / "a.npy", tmp_path / "a.npz"):
        save = np.save if path.suffix == ".npy" else np.savez
        save(path, np.array([Canary()], dtype=object), allow_pickle=True)
        assert "Python objects" in failure(path)
    assert not (tmp_path / "canary").exists()


def test_array_that_is_no_pickle_is_read_next_to_one(tmp_path):
    path = npz(tmp_path / "a.npz", images=np.zeros((4, 2, 2), np.uint8), about=np.array({"a": 1}))
    assert len(Array.from_path(path).build(tmp_path)) == 4


def test_compressed_arrays_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("gancore_plugins.readers.arrays._MOST_UNPACKED", 10_000)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros((99, 32, 32), np.uint8))
    assert "the most is 10,000" in failure(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_header_is_not_read_beyond_what_arrays_need(tmp_path, suffix):
    path, length = tmp_path / f"a{suffix}", 100_000_000
    header = b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + bytes(length)
    if suffix == ".npy":
        path.write_bytes(header)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", header)
    del header
    tracemalloc.start()
    assert "declares a header of 100,000,000 bytes; the most is 10,000" in failure(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".npz", ".txt"])
def test_list_of_an_archive_is_bounded_before_it_is_read(tmp_path, suffix):
    path, length = npz(tmp_path / "a.npz", images=np.zeros((4, 2, 2), np.uint8)), 100_000_000
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    with path.open("r+b") as file:
        file.truncate(start + length)  # a hole in place of the list
        file.seek(0, 2)
        # The record of zip64 counts, also where the other one does not refer to it.
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, length, start))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, start + length, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 66, start, 0))
    path = path.rename(tmp_path / f"a{suffix}")
    tracemalloc.start()
    if suffix == ".npz":
        assert "its list of members has 100,000,000 bytes" in failure(path)
    else:
        assert Array.from_path(path) is None
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archive_is_unpacked_within_bounds_by_deflate_only(tmp_path, method):
    path = npz(tmp_path / "a.npz", images=np.zeros((4, 2, 2), np.uint8))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("images.npy")
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", content)
    assert "another method than deflate" in failure(path)


def test_archive_whose_members_lie_about_their_size_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros((9, 8, 8), np.uint8))
    with zipfile.ZipFile(path) as archive:
        real = archive.getinfo("images.npy").file_size
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<I", real), struct.pack("<I", real + 64)))
    assert "cannot be read as npz" in failure(path)


@given(st.lists(st.integers(0, 19), min_size=1), st.integers(1, 20), st.sampled_from([None, "gzip"]))
@settings(max_examples=20)
def test_hdf5_rows_of_any_order_are_read_from_chunks(tmp_path_factory, indices, rows, compression):
    images = np.random.default_rng(0).integers(0, 255, (20, 5, 6), np.uint8)
    path = tmp_path_factory.mktemp("arrays") / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(rows, 5, 3), compression=compression)
    dataset = Array.from_path(path)
    items = dataset.build(path.parent).__getitems__(indices)
    assert torch.equal(torch.stack(items)[:, 0], torch.from_numpy(images[indices]))
    noted = f"compresses {rows} rows together" in str(dataset.findings(path.parent).notes)
    assert noted == (compression is not None and rows > 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_hdf5_error_of_a_damaged_chunk_gives_the_file(tmp_path, dtype):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        images = np.random.default_rng(0).integers(0, 255, (20, 5, 6)).astype(dtype)
        stored = file.create_dataset("images", data=images, chunks=(5, 5, 6), compression="gzip")
        place = stored.id.get_chunk_info(1).byte_offset
    with path.open("r+b") as file:
        file.seek(place + 20)
        file.write(bytes(40))
    dataset = Array.from_path(path)
    with pytest.raises(DataError, match=r"a\.h5 cannot be read as hdf5"):
        dataset.build(tmp_path).__getitems__([0, 7, 2])


def test_hdf5_never_opens_other_files(tmp_path):
    hdf5(tmp_path / "secret.h5", images=np.zeros((4, 2, 2), np.uint8))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.ExternalLink("secret.h5", "images")
    assert "it holds no datasets" in failure(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("images", (4, 2, 2), "u1", external=[(str(tmp_path / "secret.h5"), 0, 16)])
    assert "refers to other files" in failure(tmp_path / "b.h5")


def test_array_to_train_on_must_be_named_if_it_is_not_clear(tmp_path):
    path = npz(tmp_path / "a.npz", one=np.zeros((4, 2, 2), np.uint8), two=np.ones((4, 2, 2), np.uint8))
    message = failure(path)
    assert "no one is called images" in message
    assert "two: uint8 (4, 2, 2)" in message
    assert samples(path, images="two")[0].unique().tolist() == [1]
    assert "has no array 'three'; it has one, two" in failure(path, images="three")


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_array_of_a_file_with_parts_is_that_of_the_training_part(tmp_path, suffix):
    parts = {"train": (6, 1), "val": (4, 2), "test": (6, 3)}
    arrays = {
        f"{part}/{name}": values
        for part, (count, value) in parts.items()
        for name, values in (("images", np.full((count, 2, 2), value, np.uint8)), ("labels", np.full(count, value)))
    }
    path = WRITERS[suffix](tmp_path / f"a{suffix}", **arrays)
    read, labels = samples(path)
    assert (len(read), read.unique().tolist(), labels.unique().tolist()) == (6, [1], [0])
    assert Array(path=str(path)).build(tmp_path).classes == ("1",)
    found = Array(path=str(path)).findings(tmp_path)
    left_out = "test/images (6, 2, 2); test/labels (6,); val/images (4, 2, 2); val/labels (4,)"
    assert "; ".join(found.skipped["arrays left out"]) == left_out
    assert Array(path=str(path), images="val/images").build(tmp_path).classes == ("2",)


def test_labels_of_another_part_are_not_those_of_the_training_part(tmp_path):
    images = np.zeros((4, 2, 2), np.uint8)
    path = npz(tmp_path / "a.npz", **{"train/images": images, "val/images": images, "val/labels": np.arange(4)})
    assert Array(path=str(path)).outline().classes == ()


@pytest.mark.parametrize("what", ["images", "labels"])
def test_arrays_of_one_name_must_be_chosen_by_the_user(tmp_path, what):
    images, labels = np.zeros((4, 2, 2), np.uint8), np.arange(4)
    arrays = {"a/images": images, "b/images": images}
    if what == "labels":
        arrays = {"x": images, "a/labels": labels, "b/labels": labels}
    path = npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=f"has 2 arrays that may be the {what}: a/{what}: .*; b/{what}: ") as caught:
        Array(path=str(path)).outline()
    assert caught.value.hint == f"--set dataset.{what}=NAME"
    assert Array(path=str(path), **{what: f"b/{what}"}).outline().items == 4


def test_files_without_arrays_are_left_to_other_datasets(tmp_path):
    (tmp_path / "a.txt").write_text("no array")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.png", b"\x89PNG")
    for name in ("", "a.txt", "pictures.zip"):
        assert Array.from_path(tmp_path / name) is None
    npy(tmp_path / "a.npy", np.zeros((4, 2, 2), np.uint8)).rename(tmp_path / "a.txt")
    assert Array.from_path(tmp_path / "a.txt") is not None, "the content decides"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((4, 8, 8), np.uint8), "the largest value of the first 4 rows is 1, of 255"),
        (np.arange(8).reshape(2, 2, 2) * 10**8, "integers above 16,777,216 are rounded"),
        (np.full((4, 784), 9, np.uint8), "images must have the shape (N, 28, 28)"),
    ],
    ids=lambda value: "",
)
def test_findings_warn_of_data_that_may_be_misread(tmp_path, values, words):
    assert words in str(Array.from_path(npy(tmp_path / "a.npy", values)).findings(tmp_path).notes)


def test_text_of_hdf5_is_read_in_a_fixed_length_only(tmp_path):
    images = np.zeros((4, 2, 2), np.uint8)
    path = hdf5(tmp_path / "a.h5", images=images, labels=np.array(["é", "b", "b", "é"]).astype(object))
    assert "array 'labels' of" in failure(path)
    assert "variable length" in failure(path)
    fixed = np.char.encode(np.array(["é", "b", "b", "é"]), "utf-8")
    assert Array(path=str(hdf5(path, images=images, labels=fixed))).build(tmp_path).classes == ("b", "é")


def test_hdf5_that_declares_more_than_it_holds_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**9, 64, 64), "u1", chunks=(1, 64, 64))
    assert "declares 4,096,000,000,000 bytes" in failure(tmp_path / "a.h5")


def test_samples_of_very_many_values_are_refused(tmp_path):
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (2, 1, 20_000, 20_000)).flush()
    assert "up to 67,108,864 values" in failure(tmp_path / "a.npy")
