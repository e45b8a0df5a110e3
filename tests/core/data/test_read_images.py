import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore.data.read_images import read_images
from gancore.errors import DataError
from gancore.sampling.write import save_samples

GREY = (1, 4, 5)


def picture(path, mode="L", size=(5, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


def npy_bytes(values):
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def array(path, values):
    np.save(path, values)
    return path


@given(st.sampled_from([1, 3, 4]), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=20)
def test_read_images_reads_back_saved_samples(tmp_path_factory, channels, height, width, count, seed):
    folder = tmp_path_factory.mktemp("samples")
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    save_samples(images, folder / "pictures")
    save_samples(images, folder / "array.npy")
    assert torch.equal(read_images(folder / "pictures"), images)
    assert torch.equal(read_images(folder / "array.npy"), images)


def test_read_images_reads_vectors_as_float32(tmp_path):
    values = np.arange(6, dtype=np.float64).reshape(3, 2) / 7
    assert read_images(array(tmp_path / "v.npy", values)).tolist() == torch.tensor(values).float().tolist()


def test_read_images_accepts_other_array_layouts(tmp_path):
    gray = np.arange(2 * 8 * 9, dtype=np.uint8).reshape(2, 8, 9)
    color = np.arange(2 * 8 * 9 * 3, dtype=np.uint16).reshape(2, 8, 9, 3).astype(np.uint8)
    assert torch.equal(read_images(array(tmp_path / "a.npy", gray)), torch.from_numpy(gray).unsqueeze(1))
    expected = torch.from_numpy(color).permute(0, 3, 1, 2)
    assert torch.equal(read_images(array(tmp_path / "b.npy", color)), expected)
    assert torch.equal(read_images(array(tmp_path / "c.npy", expected.numpy())), expected)


def test_read_images_finds_pictures_at_any_depth_in_path_order(tmp_path):
    for number, name in enumerate(["b/2.png", "a/1.PNG", "a/deep/0.bmp", "c.jpg", "d.jpeg", "e.webp"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 4), number * 10).convert("L").save(path, quality=100, lossless=True)
    (tmp_path / "notes.txt").write_text("not a picture")
    values = [round(value, -1) for value in read_images(tmp_path, GREY)[:, 0, 0, 0].tolist()]
    assert values == [10, 20, 0, 30, 40, 50]


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("RGB", 3), ("RGBA", 4), ("LA", 4)])
def test_read_images_converts_picture_modes_to_channels(tmp_path, mode, channels):
    picture(tmp_path / "a.png", mode)
    assert read_images(tmp_path).shape == (1, channels, 4, 5)


def test_read_images_drops_an_opaque_alpha_channel(tmp_path):
    Image.new("RGBA", (5, 4), (1, 2, 3, 255)).save(tmp_path / "a.png")
    assert read_images(tmp_path)[0, :, 0, 0].tolist() == [1, 2, 3]
    Image.new("LA", (5, 4), (7, 255)).save(tmp_path / "a.png")
    assert read_images(tmp_path, GREY)[0, :, 0, 0].tolist() == [7]


def test_read_images_reads_gray_stored_as_color_as_gray_if_expected(tmp_path):
    Image.new("RGB", (5, 4), (7, 7, 7)).save(tmp_path / "a.png")
    assert read_images(tmp_path, GREY).shape == (1, 1, 4, 5)
    assert read_images(tmp_path, (3, 4, 5)).shape == (1, 3, 4, 5)
    Image.new("L", (5, 4), 7).save(tmp_path / "b.png")
    assert read_images(tmp_path, GREY).shape == (2, 1, 4, 5)
    Image.new("RGB", (5, 4), (7, 8, 7)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png.* with 3 channels"):
        read_images(tmp_path, GREY)
    gray = np.full((2, 6, 5, 3), 9, np.uint8)
    assert read_images(array(tmp_path / "a.npy", gray), GREY).shape == (2, 1, 6, 5)
    gray[1, 0, 0, 1] = 8
    assert read_images(array(tmp_path / "a.npy", gray), GREY).shape == (2, 3, 6, 5)


def bomb(side):
    """A few bytes of PNG that declare a picture of side x side pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, ["no pictures in", ".png"]),
        (lambda folder: (folder / "a.txt").write_text(""), ["no pictures in"]),
        (lambda folder: os.mkfifo(folder / "a.png"), ["a.png, a pipe"]),
        (lambda folder: (folder / "a.png").symlink_to("nowhere"), ["a.png, a broken link"]),
        (lambda folder: (folder / "a.png").write_bytes(b""), ["a.png has the suffix of a PNG file"]),
        (lambda folder: (folder / "a.png").write_bytes(b"\x80\x04K\x01."), ["a.png has the suffix of a PNG file"]),
        (lambda folder: picture(folder / "a.png", "I;16"), ["a.png", "I;16", "8 bits"]),
        (lambda folder: (picture(folder / "a.png"), picture(folder / "b.png", size=(5, 5))), ["5x4", "5x5", "b.png"]),
        (lambda folder: (picture(folder / "a.png"), picture(folder / "b.png", "RGB")), ["1 channel", "3 channels"]),
        (lambda folder: (folder / "a.png").write_bytes(bomb(9000)), ["a.png", "9000x9000", "16,777,216"]),
        (lambda folder: (folder / "a.png").write_bytes(bomb(60000)), ["a.png", "decompression bomb"]),
        (
            lambda folder: Image.new("L", (9, 9)).save(folder / "a.png", format="TIFF"),
            ["a.png has the suffix of a PNG file"],
        ),
    ],
)
def test_read_images_error_gives_the_picture_and_the_reason(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        read_images(tmp_path)
    assert all(word in caught.value.message for word in words), caught.value.message


def truncated(path):
    np.save(path, np.zeros((9, 1, 4, 4), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])


def archive(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def with_header(header):
    """Return a function that writes a .npy file with this text as header, and two bytes of data."""

    def make(path):
        text = header.encode() + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"ab")

    return make


def oversized(path):
    """Write a header that declares an exabyte."""
    np.save(path, np.zeros(9, np.uint8))
    path.write_bytes(path.read_bytes().replace(b"(9,)", b"(1000000000000000000,)").replace(b" " * 19 + b"\n", b"\n", 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: array(path, np.zeros((0, 1, 4, 4), np.uint8)), ["at least one image"]),
        (lambda path: array(path, np.zeros((2, 1, 4, 4), np.float32)), ["uint8", "float32", "(2, 1, 4, 4)"]),
        (lambda path: array(path, np.zeros((2, 4, 4), np.float64)), ["uint8", "float64"]),
        (lambda path: array(path, np.zeros((2, 1, 4, 4), np.int64)), ["uint8", "int64"]),
        (lambda path: array(path, np.zeros((2, 7), np.int32)), ["uint8", "int32"]),
        (lambda path: array(path, np.array([[1.0, 2.0], [3.0, np.nan]])), ["a.npy", "finite", "number 1"]),
        (lambda path: array(path, np.array([[1e300, 2.0]])), ["a.npy", "finite", "number 0"]),
        (lambda path: array(path, np.zeros((2, 7), ">f4")), ["uint8", ">f4"]),
        (lambda path: array(path, np.zeros((3, 0, 4, 4), np.uint8)), ["at least one pixel", "(3, 0, 4, 4)"]),
        (
            lambda path: path.write_bytes(npy_bytes(np.zeros((2, 4, 4), np.uint8)) + b"abc"),
            ["3 bytes follow the array"],
        ),
        (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), ["an archive of arrays"]),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>"), ["it begins with 3c 21"]),
        (with_header("(" * 500), ["cannot be read"]),
        (with_header("-" * 9000 + "1"), ["cannot be read"]),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (2L,)}"), ["(2,)"]),
        (with_header("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}"), ["cannot be read", "objects"]),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}"), ["a.npy"]),
        (with_header("{'descr': 'M8[s', 'fortran_order': False, 'shape': (2,)}"), ["cannot be read"]),
        (lambda path: array(path, np.zeros(7, np.uint8)), ["(N, C, H, W)", "(7,)"]),
        (lambda path: array(path, np.zeros((1, 1, 1, 4, 4), np.uint8)), ["(N, C, H, W)"]),
        (lambda path: array(path, np.array([{}, []], dtype=object)), ["cannot be read", "objects"]),
        (lambda path: path.write_bytes(b"\x80\x04K\x01."), ["cannot be read"]),
        (lambda path: path.write_bytes(b""), ["cannot be read"]),
        (truncated, ["cannot be read"]),
        (oversized, ["cannot be read"]),
        (archive, ["not a single array"]),
        (lambda path: None, ["there is no folder or file"]),
    ],
)
def test_read_images_error_gives_the_array_and_the_reason(tmp_path, make, words):
    path = tmp_path / "a.npy"
    make(path)
    with pytest.raises(DataError) as caught:
        read_images(path)
    assert all(word in caught.value.message for word in words), caught.value.message


def test_read_images_never_executes_a_pickle(tmp_path):
    class Canary:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "canary"),))

    path = tmp_path / "a.npy"
    np.save(path, np.array([Canary()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        read_images(path)
    assert not (tmp_path / "canary").exists()
