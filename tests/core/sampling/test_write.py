import csv
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore.errors import ConfigError, NumericsError, StorageError
from gancore.sampling.draw import CHUNK, SampleStream
from gancore.sampling.grid import tiles
from gancore.sampling.write import default_name, save_samples, written
from helpers.small_runs import largest_file

DTYPES = [torch.uint8, torch.float32]
ARRAYS = ["a.npy", "a.safetensors"]
OUTS = [*ARRAYS, "a.csv", "folder"]


def values(count, shape, dtype):
    """Samples that all differ."""
    numbers = torch.arange(count * int(np.prod(shape))).reshape(count, *shape)
    return (numbers % 251).to(dtype) if dtype == torch.uint8 else numbers.to(dtype) / 7


def stream(samples, *, fails_at=None, error=KeyboardInterrupt, columns=()):
    """The samples as a stream, which fails when the chunk that begins with `fails_at` is drawn."""

    def chunk(start):
        if start == fails_at:
            raise error("here")
        return samples[start : start + CHUNK]

    return SampleStream(len(samples), tuple(samples.shape[1:]), samples.dtype, chunk, columns)


def read(path):
    if path.is_dir():
        return torch.from_numpy(np.stack([np.asarray(Image.open(each)) for each in sorted(path.iterdir())])[:, None])
    if path.suffix == ".csv":
        rows = list(csv.reader(path.read_text().splitlines()))[1:]
        return torch.from_numpy(np.array(rows, dtype=np.float32))
    if path.suffix == ".npy":
        return torch.from_numpy(np.load(path, allow_pickle=False))
    return safetensors.torch.load_file(path)["samples"]


def samples_for(name, count):
    shape, dtype = ((3,), torch.float32) if name == "a.csv" else ((1, 2, 3), torch.uint8)
    return values(count, shape, dtype)


def partial_of(out):
    return out if out.name == "folder" else out.with_name(f"a.partial{out.suffix}")


@given(
    st.sampled_from(ARRAYS),
    st.integers(1, 3 * CHUNK + 1),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
)
@settings(max_examples=60)
def test_streamed_arrays_are_the_files_of_whole_ones(tmp_path_factory, name, count, shape, dtype):
    folder, samples = tmp_path_factory.mktemp("out"), values(count, shape, dtype)
    save_samples(stream(samples), folder / name)
    save_samples(samples, folder / f"whole{name}")
    assert (folder / name).read_bytes() == (folder / f"whole{name}").read_bytes()
    assert torch.equal(read(folder / name), samples)
    np.save(folder / "numpy.npy", samples.numpy())
    same = (folder / "numpy.npy").read_bytes() if name == "a.npy" else safetensors.torch.save({"samples": samples})
    assert (folder / name).read_bytes() == same


@given(st.sampled_from(OUTS), st.integers(1, 3 * CHUNK), st.data())
@settings(max_examples=40)
def test_interrupted_stream_keeps_the_samples_so_far(tmp_path_factory, name, count, data):
    out, samples = tmp_path_factory.mktemp("out") / name, samples_for(name, count)
    fails_at = data.draw(st.integers(0, (count - 1) // CHUNK)) * CHUNK
    with pytest.raises(KeyboardInterrupt) as error:
        save_samples(stream(samples, fails_at=fails_at), out)
    if fails_at == 0:
        assert error.value.kept == ""
        assert not [path for path in out.parent.rglob("*") if path.is_file()]
        return
    assert error.value.kept == f"{fails_at} of {count} samples in {partial_of(out)}"
    assert torch.equal(read(partial_of(out)), samples[:fails_at])
    assert list(out.parent.iterdir()) == [partial_of(out)]


@pytest.mark.parametrize("name", ARRAYS)
def test_partial_array_is_the_file_of_as_many_samples(tmp_path, name):
    samples = samples_for(name, 100)
    with pytest.raises(NumericsError) as error:
        save_samples(stream(samples, fails_at=CHUNK, error=NumericsError), tmp_path / name)
    assert error.value.kept
    save_samples(samples[:CHUNK].clone(), tmp_path / f"whole-{name}")
    kept, whole = read(tmp_path / f"a.partial{(tmp_path / name).suffix}"), read(tmp_path / f"whole-{name}")
    assert torch.equal(kept, whole)


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors", "a.csv", "a.png"])
@pytest.mark.parametrize(("call", "number"), [("fsync", 1), ("replace", 1), ("fsync", 2)])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_samples_are_kept_if_the_complete_file_cannot_get_its_name(tmp_path, monkeypatch, name, call, number, error):
    samples, calls, real = samples_for(name, 70), [], getattr(os, call)

    def fails(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise error("here")
        real(*arguments)

    save_samples(samples, tmp_path / f"whole-{name}")
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(StorageError if error is OSError else error) as raised:
        save_samples(samples, tmp_path / name)
    kept = tmp_path / name if number == 2 else partial_of(tmp_path / name)  # the second follows the new name
    assert raised.value.kept == f"70 of 70 samples in {kept}"
    assert kept.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_partial_file_replaces_no_other_one(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt) as error:
            save_samples(stream(samples_for("a.npy", 200), fails_at=CHUNK), tmp_path / "a.npy")
        (tmp_path / "a.partial.npy").write_text("before")
    assert error.value.kept == f"64 of 200 samples in {tmp_path / 'a.partial2.npy'}"
    assert (tmp_path / "a.partial.npy").read_text() == "before"
    assert len(read(tmp_path / "a.partial2.npy")) == CHUNK


def test_temporary_files_of_killed_processes_are_removed_and_those_in_use_stay(tmp_path):
    left, other = tmp_path / ".a.npy.0123456789abcdef.tmp", tmp_path / ".aXnpy.0123456789abcdef.tmp"
    left.touch()
    other.touch()
    first = written(stream(samples_for("a.npy", 200)), tmp_path / "a.npy")
    next(first)
    assert not left.exists()
    save_samples(samples_for("a.npy", 3), tmp_path / "a.npy")
    assert list(first) == [128, 192, 200]
    assert len(read(tmp_path / "a.npy")) == 200
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "a.npy"]


def test_interrupted_stream_leaves_the_file_that_was_there(tmp_path):
    (tmp_path / "a.npy").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        save_samples(stream(samples_for("a.npy", 200), fails_at=CHUNK), tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_text() == "before"


def test_interrupted_picture_shows_the_samples_so_far(tmp_path):
    samples = samples_for("a.png", 2 * CHUNK)
    with pytest.raises(KeyboardInterrupt):
        save_samples(stream(samples, fails_at=CHUNK), tmp_path / "a.png")
    save_samples(samples[:CHUNK], tmp_path / "whole.png")
    assert (tmp_path / "a.partial.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors", "a.csv"])
def test_full_disk_keeps_the_samples_before_it(tmp_path, name):
    samples, out = torch.arange(1000.0)[:, None].expand(-1, 64), tmp_path / name
    with largest_file(60_000), pytest.raises(StorageError) as error:
        save_samples(stream(samples), out)
    partial = partial_of(out)
    kept = read(partial)
    assert error.value.message == f"cannot write samples to {out}: File too large"
    assert error.value.kept == f"{len(kept)} of 1,000 samples in {partial}"
    assert 0 < len(kept) < 1000
    assert len(kept) % CHUNK == 0
    assert torch.equal(kept[:, 0], torch.arange(len(kept)).float())
    assert os.listdir(tmp_path) == [partial.name]


def test_file_has_its_name_only_when_it_is_complete(tmp_path):
    writing = written(stream(samples_for("a.npy", 3 * CHUNK)), tmp_path / "a.npy")
    assert [(done, (tmp_path / "a.npy").exists()) for done in writing] == [
        (CHUNK, False), (2 * CHUNK, False), (3 * CHUNK, False),
    ]  # fmt: skip
    assert (tmp_path / "a.npy").exists()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), min_size=2, max_size=2))
@settings(max_examples=30)
def test_table_has_the_names_of_its_columns(tmp_path_factory, names):
    out, samples = tmp_path_factory.mktemp("out") / "a.csv", values(5, (2,), torch.float32)
    save_samples(stream(samples, columns=tuple(names)), out)
    with out.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == names
    assert np.array_equal(np.array(rows, dtype=np.float32), samples.numpy())


def test_table_without_names_numbers_its_columns(tmp_path):
    save_samples(torch.tensor([[0.1, -2.5]]), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "v0,v1\n0.1,-2.5\n"


def test_pictures_of_a_folder_have_one_scale(tmp_path):
    samples = values(2 * CHUNK, (1, 2, 3), torch.float32)
    save_samples(stream(samples), tmp_path / "folder")
    first = samples[:CHUNK]
    assert torch.equal(read(tmp_path / "folder"), tiles(samples, (float(first.min()), float(first.max()))))


@pytest.mark.parametrize(
    ("name", "shape", "count", "error", "words"),
    [
        ("a.npy", (1, 8, 8), 10**12, StorageError, r"1,000,000,000,000 samples take about 64 TB as \.npy, and"),
        ("a.safetensors", (1, 8, 8), 10**30, StorageError, "samples take about"),
        ("a.csv", (2,), 10**15, StorageError, r"as \.csv"),
        ("new", (1, 8, 8), 10**15, StorageError, "as PNGs"),
        ("a.png", (1, 8, 8), 10**6, ConfigError, "one picture shows at most 25,890 samples of shape"),
        ("a.png", (1, 8, 8), 0, ConfigError, "a picture shows one sample or more; received 0"),
        ("a.png", (2,), 10**7, ConfigError, "one picture shows at most 1,000,000 samples"),
        ("a.csv", (1, 8, 8), 1, ConfigError, r"a \.csv file holds vectors"),
        ("a.png", (3,), 1, ConfigError, "images of 1, 3 or 4 channels"),
        ("a.jpg", (1, 8, 8), 1, ConfigError, r"a\.jpg does not end in"),
        ("new/.png", (1, 8, 8), 1, ConfigError, r"new/\.png is no name of a file"),
        ("-", (1, 8, 8), 1, ConfigError, "- is no name of a file"),
    ],
)
def test_samples_that_do_not_fit_are_refused_before_one_is_drawn(tmp_path, name, shape, count, error, words):
    with pytest.raises(error, match=words):
        written(SampleStream(count, shape, torch.uint8, pytest.fail), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_picture_of_64_samples_is_drawn_at_any_size():
    written(SampleStream(64, (3, 4096, 4096), torch.uint8, pytest.fail), Path("a.png"))


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((3, 4, 4), "samples.png"),
        ((2,), "samples.png"),
        ((1, 8), "samples.png"),
        ((5,), "samples.csv"),
        ((1,), "samples.csv"),
        ((2, 4, 4), "samples.npy"),
        ((1, 4, 4, 4), "samples.npy"),
        ((3, 1), "samples.npy"),
    ],
)
def test_default_name_fits_samples_of_any_shape(tmp_path, shape, name):
    assert default_name(shape) == name
    save_samples(values(3, shape, torch.float32), tmp_path / name)
    assert (tmp_path / name).is_file()
