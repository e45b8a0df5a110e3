import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, features

from gancore.errors import DataError
from gancore.utils.files import without_warnings
from gancore_plugins.readers import picture as reader
from gancore_plugins.readers.picture import MAX_PIXELS, has_picture_suffix, picture, why_no_picture
from gancore_plugins.readers.picture_files import FolderFiles


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


def opening(path, **options):
    return picture(FolderFiles(path.parent, [path.name]), path.name, **options)


def failure(path, **options):
    with pytest.raises(DataError) as caught, without_warnings(), opening(path, **options) as opened:
        opened.load()
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


FORMATS = {
    "PNG": ".png",
    "JPEG": ".jpe",
    "MPO": ".mpo",
    "BMP": ".bmp",
    "GIF": ".gif",
    "TIFF": ".tiff",
    "PPM": ".pgm",
    "TGA": ".tga",
    "ICO": ".ico",
    "PCX": ".pcx",
    "SGI": ".sgi",
    "DDS": ".dds",
    **({"WEBP": ".webp"} if features.check("webp") else {}),
    **({"JPEG2000": ".jp2"} if features.check("jpg_2000") else {}),
    **({"AVIF": ".avif"} if features.check("avif") else {}),
}


def saved(path, format_name, size=(16, 16)):
    Image.linear_gradient("L").resize(size).convert("RGB").save(path, format_name)
    return path


@pytest.mark.parametrize(("format_name", "suffix"), FORMATS.items())
def test_picture_is_opened_by_its_content(tmp_path, format_name, suffix):
    suffixes = [suffix, ".png"] if format_name in reader._BY_CONTENT else [suffix]
    for name in suffixes:
        with opening(saved(tmp_path / f"a{name}", format_name)) as opened:
            assert opened.size == (16, 16)
            assert abs(np.asarray(opened.convert("L"), np.int16).mean() - 127) < 10


def test_picture_of_heif_is_opened_by_its_content(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    for name in ("a.heic", "b.jpg"):
        with opening(saved(tmp_path / name, "HEIF")) as opened:
            assert opened.size == (16, 16)
            opened.load()


@pytest.mark.parametrize("frames", ["GIF", "TIFF"])
def test_picture_of_several_frames_is_its_first(tmp_path, frames):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "a", frames, save_all=True, append_images=[second])
    with opening(tmp_path / "a") as opened:
        assert opened.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        b"\xd7\xcd\xc6\x9a" + bytes(100),  # WMF
        b"%PDF-1.4\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"SIMPLE  =                    T",
        b"<html>404</html>",
    ],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.eps", "a.tga", "a"])
def test_picture_of_a_format_that_runs_programs_or_is_no_picture_is_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    failure(tmp_path / name)
    assert not reader.begins_like_a_picture(io.BytesIO(content), name)


def test_formats_that_run_programs_are_never_asked():
    for name in ("a.png", "a.eps", "a.wmf", "a.pdf", "a.fits", "a.h5", "a"):
        assert not {"EPS", "WMF", "PDF", "FITS", "HDF5", "GRIB", "BUFR", "MPEG"} & set(reader._allowed(name))


def test_suffix_says_which_files_are_opened_to_see():
    assert all(has_picture_suffix(f"a{suffix.upper()}") for suffix in (".png", ".jpe", ".jfif", ".gif", ".tif", ".ppm"))
    assert not any(map(has_picture_suffix, ("a.heic", "a.pcd", "a.rgb", "a.txt", "a", "a.eps", "png")))


def test_heic_without_decoder_names_what_to_install(tmp_path, monkeypatch):
    reader._formats.cache_clear()
    reader._suffixes.cache_clear()
    monkeypatch.setattr(reader, "find_spec", lambda name: None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    try:
        assert why_no_picture("a.HEIC") == ".heic (no decoder: pip install 'gancore[heif]')"
        (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
        assert failure(tmp_path / "a.jpg").hint == "pip install 'gancore[heif]'"
    finally:
        reader._formats.cache_clear()
        reader._suffixes.cache_clear()
        if "pillow_heif" in sys.modules:
            sys.modules["pillow_heif"].register_heif_opener()


@pytest.mark.parametrize(
    ("suffix", "make", "side"),
    [
        *(("png", bomb, side) for side in (12_000, 13_000, 60_000)),
        *(("bmp", bmp_bomb, side) for side in (12_000, 60_000)),
        *(("webp", webp_bomb, side) for side in (12_000, 16_384)),
    ],
)
def test_picture_with_too_many_pixels_is_refused_before_decoding(tmp_path, monkeypatch, suffix, make, side):
    def decode(*_):
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(make(side))
    message = failure(path).message
    assert "it was decoded" not in message
    assert f"declares {side}x{side}" in message or "declares too many pixels" in message


def test_pixel_limit_names_its_setting(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    error = failure(tmp_path / "a.png", max_pixels=63)
    assert "declares 8x8, 0.0 MP; the most is 63 pixels" in error.message
    assert "--set dataset.max_pixels=N" in error.hint
    with opening(tmp_path / "a.png", max_pixels=64) as opened:
        assert opened.size == (8, 8)
    assert MAX_PIXELS >= 100_000_000


def test_file_larger_than_its_picture_could_be_is_not_read(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("ab") as file:
        file.truncate(8 * 64 + (1 << 20) + 1)
    error = failure(tmp_path / "a.png", max_pixels=64)
    assert "bytes, more than the" in error.message
    assert "--set dataset.max_pixels=N" in error.hint


def test_png_with_a_flipped_bit_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.linear_gradient("L").resize((9, 7)).save(path)
    whole = path.read_bytes()
    for place in range(len(whole) - 12):  # Pillow checks only the name of the last chunk
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        failure(path)


def test_empty_file_and_missing_file_are_named(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert "is empty" in failure(tmp_path / "a.jpg").message
    assert "No such file" in failure(tmp_path / "b.jpg").message
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "c.jpg")
        assert "is not a regular file" in failure(tmp_path / "c.jpg").message
