"""Hostile files: the digest matches, and the content is invalid."""

import json
import struct

import pytest
import safetensors.torch
import torch

from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.format import LARGEST_HEADER
from gancore.errors import CheckpointError, StorageError
from torture.checkpoints import BLANK, damaged, described, fuzz, sealed, written

FOUR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
DATA = bytes(16)


def refused(tmp_path, content):
    """The message of the error that reading the file raises."""
    path = tmp_path / "step-00000001.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_file_that_the_other_tests_change_is_valid(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(written(described({"format": 1}, weight=FOUR), DATA))
    assert checkpoint.load(path).tensors["weight"].tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"data_offsets": [0, 20]}, DATA),
        ({"data_offsets": [-16, 0]}, DATA),
        ({"data_offsets": [16, 0]}, DATA),
        ({"data_offsets": [4, 20]}, bytes(20)),
        ({"data_offsets": [0, 16]}, bytes(20)),
        ({"data_offsets": [0.0, 16.0]}, DATA),
        ({"data_offsets": [0, 16, 16]}, DATA),
        ({"data_offsets": [False, 16]}, DATA),
        ({"data_offsets": "0,16"}, DATA),
        ({"shape": [2**40]}, DATA),
        ({"shape": [2**64, 2**64]}, DATA),
        ({"shape": [-4]}, DATA),
        ({"shape": [-2, -2]}, DATA),
        ({"shape": [True, 4]}, DATA),
        ({"shape": ["4"]}, DATA),
        ({"shape": 4}, DATA),
        ({"shape": None}, DATA),
        ({"shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}, b""),
        ({"shape": [2**62] * 50, "data_offsets": [0, 0]}, b""),
        ({"dtype": "F31"}, DATA),
        ({"dtype": "F4"}, DATA),
        ({"dtype": None}, DATA),
        ({"dtype": ["F32"]}, DATA),
        ({"dtype": "F64"}, DATA),
    ],
    ids=str,
)
def test_tensor_with_invalid_fields_is_refused(tmp_path, changes, data):
    assert "no checkpoint" in refused(tmp_path, written(described({"format": 1}, weight={**FOUR, **changes}), data))


@pytest.mark.parametrize("entry", [None, [], "F32", 7, {}, {"dtype": "F32", "shape": [4]}], ids=str)
def test_tensor_without_fields_is_refused(tmp_path, entry):
    assert "no checkpoint of gancore" in refused(tmp_path, written(described({"format": 1}, weight=entry), DATA))


@pytest.mark.parametrize(("second", "size"), [([8, 24], 24), ([0, 16], 16), ([20, 36], 36), ([12, 28], 28)])
def test_tensors_lie_one_after_another(tmp_path, second, size):
    header = described({"format": 1}, first=FOUR, second={**FOUR, "data_offsets": second})
    assert "invalid offset" in refused(tmp_path, written(header, bytes(size)))


@pytest.mark.parametrize("changes", [{"shape": [4] + [1] * 100}, {"more": 1}], ids=str)
def test_tensor_of_many_dimensions_or_with_more_fields_is_read(tmp_path, changes):
    path = tmp_path / "a.safetensors"
    path.write_bytes(written(described({"format": 1}, weight={**FOUR, **changes}), DATA))
    assert checkpoint.load(path).tensors["weight"].flatten().tolist() == [0.0] * 4


def test_tensor_may_begin_anywhere(tmp_path):
    path = tmp_path / "a.safetensors"
    byte = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    header = described({"format": 1}, first=byte, second={**FOUR, "data_offsets": [1, 17]})
    path.write_bytes(written(header, b"\x07" + struct.pack("<4f", 1, 2, 3, 4)))
    assert checkpoint.load(path).tensors["second"].tolist() == [1, 2, 3, 4]


def test_tensor_without_elements_may_have_a_large_shape(tmp_path):
    path = tmp_path / "a.safetensors"
    empty = {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [16, 16]}
    path.write_bytes(written(described({"format": 1}, weight=FOUR, empty=empty), DATA))
    assert checkpoint.load(path).tensors["empty"].shape == (0, 2**40)


def test_bool_tensor_is_read_as_0_and_1(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(
        written(described({"format": 1}, mask={"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}), b"\0\1\7")
    )
    assert checkpoint.load(path).tensors["mask"].view(torch.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "7",
        "{",
        "{}",
        '{"format": "1"}',
        '{"format": true}',
        '{"format": 1.0}',
        '{"format": 0}',
        '{"format": -1}',
        '{"format": 1, "format": 1}',
        '{"format": 1, "x": NaN}',
        '{"format": 1, "x": -Infinity}',
        '{"format": 1, "x": 1e999}',
        '{"format": 1, "x": ' + "9" * 5000 + "}",
        '{"format": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"format": 1, "x": ' + '{"":' * 100_000 + "0" + "}" * 100_001,
    ],
    ids=lambda text: text[:30],
)
def test_document_that_is_invalid_is_refused(tmp_path, document):
    assert "no checkpoint of gancore" in refused(tmp_path, written(described(document)))


@pytest.mark.parametrize(
    "header",
    [
        [{"sha256": BLANK}],
        {"__metadata__": [{"sha256": BLANK}]},
        {"__metadata__": {"sha256": BLANK}},
        {"__metadata__": {"sha256": BLANK, "gancore": {"format": 1}}},
        {"__metadata__": {"gancore": '{"format": 1}'}, "weight": {"sha256": BLANK}},
        '{"__metadata__":{"sha256":"' + BLANK + '","gancore":"{\\"format\\":1}"},"__metadata__":{}}',
        '{"__metadata__":{"sha256":"' + BLANK + '","gancore":"{\\"format\\":1}"},"x":' + "[" * 100_000,
        '{"__metadata__":{"sha256":"' + BLANK + '"},"x":{"sha256":"' + BLANK + '"}}',
    ],
    ids=lambda header: json.dumps(header)[:40],
)
def test_header_that_is_invalid_is_refused(tmp_path, header):
    assert "no checkpoint of gancore" in refused(tmp_path, written(header))


@pytest.mark.parametrize("name", ["\x1b[2J\ud800", "\x1b[2J", "weight"])
@pytest.mark.parametrize("changes", [{"dtype": "\x1b]0;\a"}, {"dtype": "F64"}, {"data_offsets": [8, 24]}], ids=str)
def test_message_about_a_hostile_name_is_printable(tmp_path, name, changes):
    assert "no checkpoint" in refused(tmp_path, written(described({"format": 1}, **{name: {**FOUR, **changes}}), DATA))


@pytest.mark.parametrize("version", [2, 999, 10**100])
def test_newer_format_is_refused_with_both_versions(tmp_path, version):
    reason = refused(tmp_path, written(described({"format": version}, weight={"dtype": "F2"}), DATA))
    assert f"format {str(version)[:20]}" in reason
    assert "needs a newer gancore" in reason
    assert reason.endswith("reads format 1")


@pytest.mark.parametrize("length", [0, 1, LARGEST_HEADER + 1, 2**32, 2**63, 2**64 - 1])
def test_header_length_out_of_range_is_refused_at_once(tmp_path, length):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little") + b"{}" * 50)
        file.truncate(2**40)  # sparse: to read that length would take all memory
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load(path)


def test_file_larger_than_memory_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(written(described({"format": 1}, weight=FOUR), DATA))

    def full(content):
        raise MemoryError

    monkeypatch.setattr(safetensors.torch, "load", full)
    with pytest.raises(CheckpointError, match="memory"):
        checkpoint.load(path)


def test_header_over_the_limit_is_not_saved(tmp_path):
    tensors = {f"weight.{index:0100}": torch.empty(0) for index in range(LARGEST_HEADER // 100)}
    with pytest.raises(StorageError, match="header"):
        checkpoint.save(tmp_path / "a.safetensors", tensors, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64),
        *(torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
        *(torch.float8_e5m2, torch.float8_e4m3fn),
    ],
    ids=str,
)
def test_dtypes_are_written_for_safetensors_and_read_back(tmp_path, dtype):
    values = torch.arange(6).remainder(2).to(dtype).reshape(2, 3)
    checkpoint.save(tmp_path / "a.safetensors", {"one": values, "two": values[0, 0]}, {})
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")
    mine = checkpoint.load(tmp_path / "a.safetensors").tensors
    for each in (found, mine):
        assert each["one"].dtype == dtype
        assert torch.equal(each["one"].view(torch.uint8), values.view(torch.uint8))
        assert each["two"].shape == ()


def test_file_written_by_safetensors_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"a": torch.arange(6.0), "b": torch.tensor(True), "c": torch.empty(0, 3), "d": torch.tensor(2.0).double()}
    safetensors.torch.save_file(tensors, path, {"gancore": '{"format": 1}', "sha256": BLANK})
    path.write_bytes(sealed(path.read_bytes()))
    found = checkpoint.load(path).tensors
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_views_are_saved_with_the_values_that_they_show(tmp_path):
    whole = torch.arange(8, dtype=torch.float32).view(torch.complex64)
    shown = {"conjugate": whole.conj(), "negative": whole.conj().imag, "turned": torch.arange(6.0).reshape(2, 3).T}
    checkpoint.save(tmp_path / "a.safetensors", shown, {})
    found = checkpoint.load(tmp_path / "a.safetensors").tensors
    assert all(torch.equal(found[name], value) for name, value in shown.items())


def test_mutated_checkpoints_are_read_or_refused(tmp_path):
    seen, wrong, _ = zip(*fuzz(tmp_path, 500), strict=True)
    assert [each for each in wrong if each] == []
    assert len(set(seen)) > 20  # many parts of the reader were reached
    assert "read" in seen


def test_damage_is_noticed_anywhere(tmp_path):
    cases = list(damaged(tmp_path, flips=300, lengths=100, bits=300))
    assert [(what, wrong) for what, wrong, _ in cases if wrong] == []
    assert len(cases) > 1000
