import gzip
import math
import os
import struct
import tracemalloc

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore_plugins.datasets.idx import read_idx

MIB = 1 << 20
shapes = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)


def header(*shape, magic=None):
    return (magic or bytes((0, 0, 8, len(shape)))) + struct.pack(f">{len(shape)}I", *shape)


@st.composite
def arrays(draw):
    shape = draw(shapes)
    count = math.prod(shape)
    return shape, draw(st.binary(min_size=count, max_size=count))


def packed(content, zipped):
    return gzip.compress(content, mtime=0) if zipped else content


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "array"


@given(arrays(), st.booleans())
def test_idx_written_arrays_are_read_back(path, array, zipped):
    shape, data = array
    path.write_bytes(packed(header(*shape) + data, zipped))
    tensor = read_idx(path, dims=len(shape))
    assert tensor.dtype == torch.uint8
    assert tensor.shape == shape
    assert tensor.flatten().tolist() == list(data)


@given(arrays(), st.booleans(), st.data())
def test_idx_truncated_file_is_refused(path, array, zipped, data):
    shape, values = array
    whole = packed(header(*shape) + values, zipped)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(DataError, match="array: "):
        read_idx(path, dims=len(shape))


@given(arrays(), st.booleans(), st.binary(min_size=1, max_size=40))
def test_idx_trailing_bytes_are_refused(path, array, zipped, rest):
    shape, data = array
    path.write_bytes(packed(header(*shape) + data + rest, zipped))
    with pytest.raises(DataError, match="the header declares"):
        read_idx(path, dims=len(shape))


@given(arrays(), st.booleans(), st.binary(min_size=4, max_size=4))
def test_idx_wrong_magic_type_or_dimensions_are_refused(path, array, zipped, magic):
    shape, data = array
    expected = bytes((0, 0, 8, len(shape)))
    assume(magic != expected and not magic.startswith(b"\x1f\x8b"))
    path.write_bytes(packed(header(*shape, magic=magic) + data, zipped))
    with pytest.raises(DataError) as caught:
        read_idx(path, dims=len(shape))
    assert expected.hex(" ") in caught.value.message
    assert magic.hex(" ") in caught.value.message


def outcome(path, dims):
    """Return the tensor or the DataError, and Python's peak memory."""
    tracemalloc.start()
    try:
        return read_idx(path, dims=dims), tracemalloc.get_traced_memory()[1]
    except DataError as error:
        return error, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@given(arrays(), st.booleans(), st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4))
def test_idx_damaged_file_gives_the_declared_shape_or_a_data_error(path, array, zipped, flips):
    shape, data = array
    raw = bytearray(packed(header(*shape) + data, zipped))
    for position, flip in flips:
        raw[position % len(raw)] ^= flip
    path.write_bytes(raw)
    result, peak = outcome(path, len(shape))
    assert peak < 2 * MIB
    if isinstance(result, torch.Tensor):
        content = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else bytes(raw)
        assert content == header(*result.shape) + bytes(result.flatten().tolist())


@given(st.binary(max_size=64), st.sampled_from([b"", b"\x1f\x8b\x08", bytes((0, 0, 8, 2))]))
def test_idx_arbitrary_bytes_give_a_tensor_or_a_data_error(path, rest, begin):
    path.write_bytes(begin + rest)
    result, peak = outcome(path, 2)
    assert peak < 2 * MIB
    assert isinstance(result, DataError | torch.Tensor)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("shape", [(2**31, 28, 28), (2**32 - 1,) * 3, (0, 2**32 - 1, 2**32 - 1), (1025, 1024, 1024)])
def test_idx_array_over_the_limit_is_refused_before_memory_is_allocated(path, shape, zipped):
    path.write_bytes(packed(header(*shape) + bytes(10), zipped))
    result, peak = outcome(path, 3)
    assert isinstance(result, DataError)
    assert "at most 1073741824 bytes" in result.message
    assert "x".join(map(str, shape)) in result.message
    assert peak < MIB


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_memory_depends_on_the_bytes_that_arrive_not_on_the_declared_size(path, zipped):
    path.write_bytes(packed(header(1024, 1024, 1024) + bytes(10), zipped))
    result, peak = outcome(path, 3)
    assert isinstance(result, DataError)
    assert "1024x1024x1024" in result.message
    assert peak < 2 * MIB


def test_idx_array_of_the_limit_is_allowed(path):
    path.write_bytes(header(2, 5) + bytes(10))
    assert read_idx(path, dims=2, limit=10).shape == (2, 5)
    with pytest.raises(DataError, match="at most 9 bytes"):
        read_idx(path, dims=2, limit=9)


def test_idx_gzip_bomb_is_not_read_past_the_declared_bytes(path):
    bomb = gzip.compress(header(10) + bytes(64 * MIB), mtime=0)
    path.write_bytes(bomb[:-100])  # reading to the end would raise another error
    result, peak = outcome(path, 1)
    assert isinstance(result, DataError)
    assert "received more than 10" in result.message
    assert peak < MIB


def test_idx_reading_holds_the_array_about_once(path):
    path.write_bytes(packed(header(16, MIB) + bytes(16 * MIB), True))
    result, peak = outcome(path, 2)
    assert result.shape == (16, MIB)
    assert peak < 20 * MIB


def test_idx_wrong_gzip_checksum_is_refused(path):
    raw = bytearray(gzip.compress(header(3) + b"abc", mtime=0))
    raw[-8] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="incorrect data check"):
        read_idx(path, dims=1)


@pytest.mark.parametrize("rest", [b"x", gzip.compress(b"x", mtime=0)], ids=["a byte", "another stream"])
def test_idx_bytes_after_a_gzip_stream_are_refused(path, rest):
    path.write_bytes(gzip.compress(header(3) + b"abc") + rest)
    with pytest.raises(DataError):
        read_idx(path, dims=1)


def test_idx_gzip_header_without_an_end_is_refused_quickly(path):
    path.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * (20 * MIB))  # a file name without its final zero byte
    result, peak = outcome(path, 1)
    assert "cut off" in result.message
    assert peak < 2 * MIB


def test_idx_gzip_output_that_is_buffered_after_the_last_input_is_read(path):
    """The decompressor may hold output when all compressed bytes are consumed."""
    for count in range(1, 600):
        path.write_bytes(gzip.compress(header(count) + b"z" * count, mtime=0))
        assert read_idx(path, dims=1).shape == (count,)


def test_idx_web_page_in_place_of_data_is_named(path):
    path.write_bytes(b"<!DOCTYPE html><title>403 Forbidden</title>")
    with pytest.raises(DataError, match="3c 21 44 4f, which is a web page"):
        read_idx(path, dims=3)


def test_idx_gzip_is_detected_by_its_bytes_not_by_its_name(tmp_path):
    (tmp_path / "plain.gz").write_bytes(header(2) + b"\x01\x02")
    (tmp_path / "zipped").write_bytes(gzip.compress(header(2) + b"\x01\x02"))
    assert read_idx(tmp_path / "plain.gz", dims=1).tolist() == [1, 2]
    assert read_idx(tmp_path / "zipped", dims=1).tolist() == [1, 2]


def test_idx_empty_file_is_named(path):
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"array: .* received an empty file"):
        read_idx(path, dims=1)


def test_idx_missing_files_and_folders_are_refused(tmp_path):
    for path, reason in [("absent", "No such file"), (".", "Is a directory")]:
        with pytest.raises(DataError, match=reason):
            read_idx(tmp_path / path, dims=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_idx_refuses_a_pipe_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="regular file"):
        read_idx(tmp_path / "pipe", dims=1)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root and Windows ignore a file's mode")
def test_idx_unreadable_file_is_refused(tmp_path):
    (tmp_path / "closed").touch(mode=0)
    with pytest.raises(DataError, match="Permission denied"):
        read_idx(tmp_path / "closed", dims=1)
