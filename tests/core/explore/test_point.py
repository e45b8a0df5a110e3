"""Points: their latents, and stored latents."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import ConfigError, DataError
from gancore.explore.point import Point, StoredLatents, latent_of, read_point
from gancore.sampling.directions import find_directions, move
from gancore.sampling.latents import mix, truncate
from gancore.sampling.load import load

NAME = "step-00000060.safetensors"


@pytest.fixture(scope="module")
def trained(trained_run):
    return load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def directions(trained):
    return find_directions(trained)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**53 - 1), truncation=st.floats(0, 1), amount=st.floats(-9, 9), part=st.floats(0, 1))
def test_latent_is_mixed_then_truncated_then_moved(trained, directions, seed, truncation, amount, part):
    point = Point(checkpoint=NAME, base=seed, other=3, amount=part, truncation=truncation, moves={2: amount})
    first, second = trained.seed_latents([seed, 3])
    mixed = mix(first, second, part, "normal").unsqueeze(0)
    expected = truncate(mixed, truncation)
    expected = move(directions, expected, {2: amount}) if amount else expected
    assert torch.equal(latent_of(point, trained, StoredLatents(Path()), directions), expected)


def test_plain_point_has_the_latent_of_its_seed_to_the_bit(trained, tmp_path):
    for point in (Point(checkpoint=NAME, base=8), Point(checkpoint=NAME, base=8, other=2, moves={1: 0.0})):
        assert torch.equal(latent_of(point, trained, StoredLatents(tmp_path), None), trained.seed_latents([8]))
        assert point.is_of_seed
    with pytest.raises(ConfigError, match="no editing directions"):
        latent_of(Point(checkpoint=NAME, moves={1: 1}), trained, StoredLatents(tmp_path), None)


@settings(max_examples=30)
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_stored_latents_are_read_back_by_another_process(tmp_path_factory, values):
    run = tmp_path_factory.mktemp("run")
    stored, latent = StoredLatents(run), torch.tensor(values)
    digest = stored.add(latent)
    assert stored.write(digest, len(values)) == run / "explore" / f"latent-{digest}.npy"
    again = StoredLatents(run).get(digest, len(values))
    assert again.numpy().tobytes() == latent.numpy().tobytes()
    for holder in (stored, StoredLatents(run)):
        with pytest.raises(DataError, match=f"{len(values) + 1}"):
            holder.get(digest, len(values) + 1)


def test_stored_latent_in_use_stays_while_others_are_added(tmp_path, monkeypatch):
    monkeypatch.setattr("gancore.explore.point._MOST_KEPT", 3)
    stored = StoredLatents(tmp_path)
    used, unused = stored.add(torch.zeros(4)), stored.add(torch.ones(4))
    for value in (2.0, 3.0, 4.0):
        assert torch.equal(stored.get(used, 4), torch.zeros(4))
        stored.add(torch.full((4,), value))
    assert torch.equal(stored.get(used, 4), torch.zeros(4))
    with pytest.raises(DataError, match=f"latent {unused} is lost"):
        stored.get(unused, 4)


@pytest.mark.parametrize(
    "values",
    [
        None,
        np.zeros((2, 4), np.float32),
        np.zeros((1, 4)),
        np.full((1, 4), np.nan, np.float32),
        np.array([["a"]], dtype=object),
        np.zeros((1, 300_000), np.float32),
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64)}".ljust(118),
        b"\x93NUMPY\x01\x00\x04\x00((((",
        b"PK\x03\x04",
        "archive",
        "pipe",
        np.zeros((1, 4), np.float32),  # of another digest
    ],
)
def test_damaged_file_of_a_latent_is_an_error(tmp_path, values):
    stored = StoredLatents(tmp_path)
    path = stored.path("0123456789abcdef")
    path.parent.mkdir()
    if values is None:
        path.write_bytes(b"PNG")
    elif isinstance(values, bytes):
        path.write_bytes(values)
    elif isinstance(values, str) and values == "pipe":
        os.mkfifo(path)
    elif isinstance(values, str):
        with path.open("wb") as file:
            np.savez(file, np.zeros((1, 4), np.float32))
    else:
        np.save(path, values, allow_pickle=True)
    with pytest.raises(DataError, match=r"latent 0123456789abcdef is lost: .*\.npy"):
        stored.get("0123456789abcdef", 4)


def test_pipe_in_the_place_of_a_latent_does_not_block(tmp_path):
    stored = StoredLatents(tmp_path)
    path = stored.path("0123456789abcdef")
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(DataError, match="is not a regular file"):
        stored.get("0123456789abcdef", 4)


@pytest.mark.parametrize(
    "changed",
    [
        {"checkpoint": "../step-00000060.safetensors"},
        {"checkpoint": "step-00000060.safetensors\n"},
        {"base": -1},
        {"base": 2**53},
        {"base": "0123456789ABCDEF"},
        {"base": 1.5},
        {"amount": 1.1},
        {"moves": {"0": 1}},
        {"moves": {"1": float("nan")}},
        {"moves": {str(number): 1 for number in range(1, 70)}},
        {"unknown": 1},
    ],
)
def test_data_that_is_no_point_is_refused(changed):
    assert read_point({"checkpoint": NAME}) == Point(checkpoint=NAME)
    with pytest.raises(DataError, match="this is no point of the explorer"):
        read_point({"checkpoint": NAME} | changed)
