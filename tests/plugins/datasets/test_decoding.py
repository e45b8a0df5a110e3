import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore_plugins.datasets.decoding import Decoded, PictureFormat, decode
from gancore_plugins.datasets.deep import any_is_deep
from gancore_plugins.readers.picture_files import FolderFiles
from helpers.deep_pictures import png16, ppm16, tiff16


def decoded(folder, name, **fields):
    """Decode one picture, by default to its own size with 8 bits, or return why it cannot be read."""
    settings_ = {"size": (8, 8), "channels": 3, "fit": "crop", "max_pixels": 10**6, "bits": 8, **fields}
    return decode(FolderFiles(folder, [name]), name, PictureFormat(**settings_))


def random_pixels(channels, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, (channels, height, width), np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".txt", ""])
@pytest.mark.parametrize(
    ("file_format", "exact"),
    [
        ("PNG", True),
        ("JPEG", False),
        ("WEBP", False),
        ("BMP", True),
        ("GIF", False),
        ("TIFF", True),
        ("PPM", True),
        ("JPEG2000", True),
        ("AVIF", False),
    ],
)
def test_decode_recognizes_a_format_by_its_content(tmp_path, file_format, exact, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"1{suffix}", file_format)
    result = decoded(tmp_path, f"1{suffix}")
    assert (result.file_format, result.size, result.transparent, result.deep) == (file_format, (8, 8), False, False)
    assert result.pixels.shape == (3, 8, 8)
    assert not exact or np.array_equal(result.pixels, pixels.transpose(2, 0, 1))


def test_decode_reads_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for suffix in ("gif", "tiff", "webp", "png"):
        frames[0].save(tmp_path / f"1.{suffix}", save_all=True, append_images=frames[1:])
        assert decoded(tmp_path, f"1.{suffix}").pixels[0].min() > 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "1.png is empty"),
        (b"<html>404</html>", "1.png has the suffix of a picture, but not the content of one"),
        (b"\x89PNG\r\n\x1a\n", "1.png has the suffix of a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "1.png has the suffix of a picture"),  # a program
    ],
)
def test_decode_says_why_a_file_is_no_picture(tmp_path, content, reason):
    (tmp_path / "1.png").write_bytes(content)
    assert reason in decoded(tmp_path, "1.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff", "ppm", "jp2", "avif"])
def test_decode_refuses_a_picture_that_was_cut(tmp_path, suffix):
    path = tmp_path / f"1.{suffix}"
    Image.fromarray(random_pixels(3, 64, 64).astype(np.uint8).transpose(1, 2, 0)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reason = decoded(tmp_path, path.name)
    assert isinstance(reason, str)
    assert reason.startswith((f"{path.name}: ", f"{path.name} has the suffix of a picture"))


def test_decode_names_the_setting_of_a_limit(tmp_path):
    Image.new("RGB", (9, 7)).save(tmp_path / "1.png")
    reason = decoded(tmp_path, "1.png", max_pixels=62)
    assert reason.startswith("1.png declares 9x7, 0.0 MP; the most is 62 pixels (")
    assert "--set dataset.max_pixels=N" in reason
    assert isinstance(decoded(tmp_path, "1.png", max_pixels=63), Decoded)
    (tmp_path / "2.bmp").write_bytes(bytes(2 << 20))
    assert "--set dataset.max_pixels=N" in decoded(tmp_path, "2.bmp", max_pixels=63)


@given(
    channels=st.sampled_from([1, 2, 3, 4]),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
@settings(max_examples=30)
def test_decode_keeps_every_bit_of_16(tmp_path_factory, channels, sides, seed):
    folder, pixels = tmp_path_factory.mktemp("deep"), random_pixels(channels, *sides, seed)
    (folder / "1.png").write_bytes(png16(pixels))
    if channels > 2:
        result = decoded(folder, "1.png", size=sides, channels=channels, bits=16)
        assert np.array_equal(result.pixels[channels - 1], pixels[channels - 1])
        opaque = pixels[3] > 6000 if channels == 4 else np.ones(sides, bool)
        assert np.abs(result.pixels.astype(int) - pixels)[:, opaque].max(initial=0) <= (1 if channels == 4 else 0)
    else:
        result = decoded(folder, "1.png", size=sides, channels=1, bits=16)
        share = pixels[1] / 65535 if channels == 2 else 1
        assert np.abs(result.pixels[0] - (65535 + (pixels[0] - 65535.0) * share)).max() <= 1
        assert channels == 2 or np.array_equal(result.pixels, pixels)
    assert result.pixels.dtype == np.uint16
    assert result.deep
    assert result.transparent == (channels in (2, 4) and bool((pixels[-1] < 65535).any()))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_decode_keeps_every_bit_of_tiff(tmp_path, order, compressed):
    pixels = random_pixels(3, 5, 8)
    (tmp_path / "1.tiff").write_bytes(tiff16(pixels, order, compressed=compressed))
    assert np.array_equal(decoded(tmp_path, "1.tiff", size=(5, 8), bits=16).pixels, pixels)
    gray = Image.fromarray(pixels[0])
    gray.save(tmp_path / "2.tiff", compression="tiff_lzw" if compressed else None)
    assert np.array_equal(decoded(tmp_path, "2.tiff", size=(5, 8), channels=1, bits=16).pixels, pixels[:1])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_turns_deep_tiff_upright_once(tmp_path, orientation, bits):
    pixels = random_pixels(3, 5, 8)
    (tmp_path / "1.tiff").write_bytes(tiff16(pixels, orientation=orientation))
    turned = pixels.transpose(0, 2, 1) if orientation > 4 else pixels
    turned = turned[:, ::-1] if orientation in (3, 4, 7, 8) else turned
    turned = turned[:, :, ::-1] if orientation in (2, 3, 6, 7) else turned
    result = decoded(tmp_path, "1.tiff", size=turned.shape[1:], bits=bits)
    assert np.array_equal(result.pixels, turned if bits == 16 else np.rint(turned / 257))
    assert result.size == (turned.shape[2], turned.shape[1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("maximum", [65535, 4095])
def test_decode_keeps_every_bit_of_netpbm(tmp_path, channels, maximum):
    pixels = np.minimum(random_pixels(channels, 5, 8), maximum)
    (tmp_path / "1.ppm").write_bytes(ppm16(pixels, maximum))
    result = decoded(tmp_path, "1.ppm", size=(5, 8), channels=channels, bits=16).pixels
    assert np.array_equal(np.rint(result * (maximum / 65535)), pixels)
    assert maximum < 65535 or np.array_equal(result, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_decode_scales_between_8_and_16_bits(tmp_path, channels):
    pixels = random_pixels(channels, 8, 8)
    (tmp_path / "deep.png").write_bytes(png16(pixels))
    low = decoded(tmp_path, "deep.png", channels=channels)
    assert np.array_equal(low.pixels, np.rint(pixels / 257).astype(np.uint8))
    assert low.deep
    Image.fromarray(low.pixels.transpose(1, 2, 0).squeeze()).save(tmp_path / "low.png")
    high = decoded(tmp_path, "low.png", channels=channels, bits=16)
    assert np.array_equal(high.pixels, low.pixels * np.uint16(257))
    assert not high.deep


@given(
    source=st.sampled_from([1, 3, 4]),
    channels=st.sampled_from([1, 3, 4]),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    half=st.sampled_from([None, "left", "right"]),
)
@settings(max_examples=40)
def test_decode_of_16_bits_agrees_with_8(tmp_path_factory, source, channels, fit, size, half):
    folder = tmp_path_factory.mktemp("both")
    pixels = np.random.default_rng(0).integers(64, 192, (source, 6, 10), np.uint8)
    # Values from the middle: Pillow clips 8 bits after each of two passes.
    Image.fromarray(pixels.transpose(1, 2, 0).squeeze()).save(folder / "low.png")
    (folder / "deep.png").write_bytes(png16(pixels.astype(np.uint16) * 257))
    fields = {"channels": channels, "fit": fit, "size": size, "half": half}
    low, deep = (decoded(folder, name, **fields) for name in ("low.png", "deep.png"))
    difference = np.abs(low.pixels.astype(int) - deep.pixels.astype(int))
    assert difference.max() <= (8 if source == channels == 4 else 2)  # Pillow rounds colors that are weighed with alpha
    assert low.transparent == deep.transparent


def test_decode_reads_bitmaps_with_16_bits_per_pixel(tmp_path):
    fields = struct.pack("<IiiHHIIiiIIIII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0, 0xF800, 0x07E0, 0x001F)  # 5-6-5 bits
    (tmp_path / "1.bmp").write_bytes(struct.pack("<2sIII", b"BM", 70, 0, 66) + fields + struct.pack("<2H", 0xF800, 31))
    result = decoded(tmp_path, "1.bmp", size=(1, 2))
    assert not result.deep
    assert result.pixels.squeeze().T.tolist() == [[255, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize("bits", [8, 16])
def test_decode_reads_colors_that_pillow_shows_with_8_bits(tmp_path, bits):
    ink = np.full((4, 4, 4), 65535, np.uint16) * np.reshape([0, 1, 1, 0], (4, 1, 1)).astype(np.uint16)  # red
    (tmp_path / "1.tiff").write_bytes(tiff16(ink))
    result = decoded(tmp_path, "1.tiff", bits=bits)
    assert (result.pixels == np.reshape([255 if bits == 8 else 65535, 0, 0], (3, 1, 1))).all()


def test_decode_refuses_values_that_do_not_fit_into_16_bits(tmp_path):
    Image.fromarray(np.full((8, 8), 70000, np.int32)).save(tmp_path / "1.tiff")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "2.tiff")
    for bits in (8, 16):
        assert "more than 16 bits" in decoded(tmp_path, "1.tiff", bits=bits)
        assert "float32" in decoded(tmp_path, "2.tiff", bits=bits)


def test_decode_places_large_transparent_pictures_on_white_in_bands(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    whole = decoded(tmp_path, "1.png", size=(9, 8))
    monkeypatch.setattr("gancore_plugins.datasets.decoding._BAND_PIXELS", 16)
    assert np.array_equal(decoded(tmp_path, "1.png", size=(9, 8)).pixels, whole.pixels)


def test_bits_are_those_of_a_sample_of_pictures(tmp_path):
    for number in range(100):
        Image.new("L", (2, 2)).save(tmp_path / f"{number:03}.png")
    names = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / "000.png").write_bytes(b"damaged")
    assert not any_is_deep(FolderFiles(tmp_path, names), 10)
    (tmp_path / "090.png").write_bytes(png16(random_pixels(3, 2, 2)))
    assert any_is_deep(FolderFiles(tmp_path, names), 10)
    assert not any_is_deep(FolderFiles(tmp_path, names), 9)
    assert not any_is_deep(FolderFiles(tmp_path, names[:3]), 10)


def test_decode_leaves_large_pictures_for_later(tmp_path):
    files = FolderFiles(tmp_path, ["1.png", "2.jpg"])
    for name in files.names:
        Image.new("RGB", (100, 80)).save(tmp_path / name)
    form = PictureFormat((10, 8), 3, "crop", 10**6)
    assert decode(files, "1.png", form, 7999) is None
    assert isinstance(decode(files, "1.png", form, 8000), Decoded)
    assert isinstance(decode(files, "2.jpg", form, 2000), Decoded)  # JPEG is decoded at a smaller size
