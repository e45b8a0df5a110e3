import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore.errors import DataError
from gancore.utils.files import MOST_PIXELS, picture, pictures_below, regular, without_warnings

pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(side):
    """A few bytes whose header declares a PNG of side x side."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp_bomb(side):
    """A few bytes whose header declares a WEBP of side x side, which has 14 bits for each."""
    body = b"\x2f" + struct.pack("<I", (side - 1) & 0x3FFF | ((side - 1) & 0x3FFF) << 14) + bytes(15)
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def bmp_bomb(side):
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def reason(path, **options):
    with pytest.raises(DataError) as caught, without_warnings(), picture(path, **options) as opened:
        opened.load()
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


@pipes
def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe is not a regular file"), regular(tmp_path / "pipe"):
        pass


def test_device_folder_and_missing_file_are_not_opened(tmp_path):
    for path in (os.devnull, tmp_path, tmp_path / "absent"):
        with pytest.raises(OSError, match=r"regular|directory|No such"), regular(path):
            pass


def test_link_to_a_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    with regular(tmp_path / "link") as file:
        assert file.read() == b"abc"


def test_pictures_are_found_at_any_depth_and_in_order(tmp_path):
    names = ["b.png", "a/z.JPEG", "a/b/c.webp"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "link.png").symlink_to("b.png")
    (tmp_path / "round").symlink_to(".")  # a folder, which is not followed
    assert pictures_below(tmp_path) == ["a/b/c.webp", "a/z.JPEG", "b.png", "link.png"]


parts = st.text(st.sampled_from("a-.é\udcff\U0001f600"), min_size=1, max_size=4).filter(lambda part: part.strip("."))


@given(st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), max_size=12))
@settings(max_examples=50)
def test_pictures_are_in_the_order_of_their_paths(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("in")
    made = {folder / "first.png"} | {folder / f"{name}!.png" for name in names}
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [folder / name for name in pictures_below(folder)] == sorted(made)


def test_deep_folders_are_searched(tmp_path):
    """Recursive walks fail, also that of pytest's cleanup, so the folders are removed here."""
    deep = [os.fspath(tmp_path)]
    for _ in range(1100):
        deep.append(f"{deep[-1]}/d")
        os.mkdir(deep[-1])
    try:
        Path(deep[-1], "a.png").touch()
        assert len(pictures_below(tmp_path)) == 1
    finally:
        os.unlink(f"{deep[-1]}/a.png")
        for folder in reversed(deep[1:]):
            os.rmdir(folder)


@pipes
def test_special_files_named_like_pictures_are_listed_with_their_kind(tmp_path):
    (tmp_path / "good.png").touch()
    os.mkfifo(tmp_path / "1.png")
    (tmp_path / "2.png").mkdir()
    (tmp_path / "3.png").symlink_to("nowhere")
    (tmp_path / "4.png").symlink_to("4.png")
    with pytest.raises(DataError) as caught:
        pictures_below(tmp_path)
    for words in ("4 are not", "1.png, a pipe", "2.png, a folder", "3.png, a broken link", "and 1 more"):
        assert words in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into everything")
def test_unreadable_folder_is_an_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DataError, match=r"cannot read folder .*closed"):
        pictures_below(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "make", "side"),
    [
        *(("png", bomb, side) for side in (4097, 9000, 13000, 60000)),
        *(("bmp", bmp_bomb, side) for side in (4097, 60000)),
        *(("webp", webp_bomb, side) for side in (4097, 16384)),
    ],
)
def test_picture_with_too_many_pixels_is_refused_before_decoding(tmp_path, monkeypatch, suffix, make, side):
    def decode(*_):
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(make(side))
    message = reason(path)
    assert "it was decoded" not in message
    assert f"declares {side}x{side}" in message or "decompression bomb" in message
    if side == 9000:
        assert "81.0 MP; the most is 16,777,216 pixels" in message


def test_pixel_limit_can_be_chosen(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert "declares 8x8" in reason(tmp_path / "a.png", most_pixels=63)
    with picture(tmp_path / "a.png", 64) as opened:
        assert opened.size == (8, 8)
    assert MOST_PIXELS == 4096 * 4096


def test_file_larger_than_its_picture_could_be_is_not_read(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("ab") as file:
        file.truncate(4 * MOST_PIXELS + (1 << 20) + 1)
    assert "bytes, more than the" in reason(tmp_path / "a.png")


def test_png_with_a_flipped_bit_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.linear_gradient("L").resize((9, 7)).save(path)
    whole = path.read_bytes()
    for place in range(len(whole) - 12):  # Pillow checks only the name of the last chunk
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        reason(path)
