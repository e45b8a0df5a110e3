"""Weights of plain state dicts and of checkpoints: what is read, and what is refused without running it."""

import argparse
import hashlib
import io
import json
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from gancore.checkpoint import store, weights
from gancore.checkpoint.weights import read_weights
from gancore.errors import CheckpointError

NET = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
STATE = {name: value.detach().clone() for name, value in NET.state_dict().items()}


def saved(value, path, **options):
    torch.save(value, path, **options)
    return path


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("kind", ["torch", "old torch", "safetensors", "another name"])
def test_state_dict_is_read_by_its_content(tmp_path, kind):
    path = tmp_path / ("a.safetensors" if kind in ("safetensors", "another name") else "a.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(STATE, path)
    else:
        saved(NET.state_dict(), path, _use_new_zipfile_serialization=kind != "old torch")
    found = read_weights(path)
    assert same(found.tensors, STATE)
    assert found.is_plain
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("shape", [[], [1]])
def test_bool_of_a_state_dict_is_0_or_1(tmp_path, shape):
    header = json.dumps({"mask": {"dtype": "BOOL", "shape": shape, "data_offsets": [0, 1]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\7")
    assert read_weights(tmp_path / "a.safetensors").tensors["mask"].view(torch.uint8).tolist() in (1, [1])


@pytest.mark.parametrize("length", [0x180, 0x280, 0x580])
def test_safetensors_header_whose_length_looks_like_a_pickle_is_read(tmp_path, length):
    content = safetensors.torch.save(STATE)
    start = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + start].rstrip()
    assert len(header) <= length + 512
    length = length if len(header) <= length else length + 0x10000
    padded = length.to_bytes(8, "little") + header.ljust(length) + content[8 + start :]
    (tmp_path / "a").write_bytes(padded)
    assert padded[:1] == b"\x80"
    assert same(read_weights(tmp_path / "a").tensors, STATE)


def test_nested_state_dicts_have_dotted_names_and_the_rest_is_left_out(tmp_path):
    value = {"g": NET.state_dict(), "opt": optim.Adam(NET.parameters()).state_dict(), "epoch": 3, "note": "x"}
    found = read_weights(saved(value, tmp_path / "a.pt"))
    assert same(found.tensors, {f"g.{name}": value for name, value in STATE.items()})


def test_parameters_lose_their_graph(tmp_path):
    found = read_weights(saved(dict(NET.named_parameters()), tmp_path / "a.pt"))
    assert [type(value) for value in found.tensors.values()] == [torch.Tensor] * 4
    assert not any(value.requires_grad for value in found.tensors.values())


def test_checkpoint_of_a_run_is_read_with_what_it_is_about(tmp_path):
    about = {
        "config": {},
        "progress": {"step": 3, "images_seen": 4, "seconds": 1.0},
        "made_with": {"plugins": {}},
        "data_format": {
            "shape": [1],
            "condition": None,
            "classes": [],
            "dtype": "uint8",
            "value_range": None,
            "mirrors": False,
        },
    }
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    store.save(store.path_of(folder, 3), {"generator.0.weight": torch.ones(2)}, about)
    found = read_weights(tmp_path)
    assert found.about["progress"]["step"] == 3
    assert found.digest == store.load(store.path_of(folder, 3)).digest
    assert found.path == store.path_of(folder, 3)


class Runs:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("make", [lambda trap: {"w": torch.zeros(1), "x": trap}, lambda trap: trap])
def test_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, make, old):
    path = saved(make(Runs(tmp_path / "ran")), tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match="mkdir besides tensors, and is not opened"):
        read_weights(path)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(CheckpointError):
        read_weights(tmp_path / "b.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [NET, {"g": STATE, "args": argparse.Namespace(x=1)}], ids=["module", "namespace"])
def test_refused_file_can_be_converted_as_the_hint_says(tmp_path, value, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as failure:
        read_weights(saved(value, tmp_path / "a.pth"))
    lines = failure.value.hint.partition("in Python: ")[2]
    exec(lines, {"torch": torch})  # noqa: S102  # the hint itself
    found = read_weights(tmp_path / "weights.pth").tensors
    assert same({name.removeprefix("g."): value for name, value in found.items()}, STATE)


def zipped(entries, **options):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return content.getvalue()


def listed_three_times(name, data):
    """An archive that holds an entry once, and unpacks to three."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, data)
        archive.filelist *= 3
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither a complete safetensors file nor"),
        (b"hello world, no file", "neither a complete safetensors file nor"),
        ((2**40).to_bytes(8, "little") + b"{}", "neither a complete"),
        (zipped({"a/data.pkl": b"0" * 5000}, compression=zipfile.ZIP_DEFLATED), "compressed archive"),
        (zipped({"a/code/x.py": b"", "a/constants.pkl": b""}), "compiled model"),
        (listed_three_times("a/data/0", b"0" * 1000), "unpacks to more than a state dict may"),
        (zipped({"a/data.pkl": b"nothing"}), "damaged"),
        (b"PK\x03\x04 and then nothing", "damaged"),
        (b"\x80\x02}q\x00.", "no tensors|damaged"),
        (safetensors.torch.save({}), "no tensors"),
    ],
)
def test_file_of_another_kind_is_refused(tmp_path, content, words):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_weights(tmp_path / "a.pth")


def test_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    path = saved(STATE, tmp_path / "a.pth")
    size = path.stat().st_size
    monkeypatch.setattr(weights, "LARGEST_FILE", size)
    assert same(read_weights(path).tensors, STATE)
    monkeypatch.setattr(weights, "LARGEST_FILE", size - 1)
    with pytest.raises(CheckpointError, match=f"has {size:,} bytes; the most is {size - 1:,}"):
        read_weights(path)


def test_tensors_larger_than_their_file_are_refused(tmp_path):
    path = saved({"w": torch.zeros(1).expand(10**12)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="have 4,000,000,000,000 bytes, and the file has"):
        read_weights(path)


def test_state_dict_that_holds_itself_or_one_tensor_is_refused(tmp_path):
    value = {"w": torch.zeros(1)}
    value["again"] = value
    with pytest.raises(CheckpointError, match="more entries than a state dict may"):
        read_weights(saved(value, tmp_path / "a.pth"))
    with pytest.raises(CheckpointError, match="one tensor without a name"):
        read_weights(saved(torch.zeros(3), tmp_path / "b.pth"))


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: None])
def test_pipe_and_missing_file_are_refused(tmp_path, make):
    make(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"cannot read .*a\.pth"):
        read_weights(tmp_path / "a.pth")


GOOD = {
    "torch": (lambda: (content := io.BytesIO(), torch.save(STATE, content))[0].getvalue())(),
    "old torch": (
        lambda: (content := io.BytesIO(), torch.save(STATE, content, _use_new_zipfile_serialization=False))[
            0
        ].getvalue()
    )(),
    "safetensors": safetensors.torch.save(STATE),
}


@pytest.mark.parametrize("kind", GOOD)
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_file_is_read_or_refused_and_never_a_traceback(tmp_path_factory, kind, data):
    content = bytearray(GOOD[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.pth"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    message = ""
    try:
        found = read_weights(path)
    except CheckpointError as error:
        message = str(error)
    assert message.isprintable()
    if not message:
        assert sum(value.nbytes for value in found.tensors.values()) <= 4 * len(content) + 2**20
