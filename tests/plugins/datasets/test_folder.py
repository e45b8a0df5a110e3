import os
import pickle
import shutil
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pydantic import ValidationError

from gancore.contracts import Outline
from gancore.data.feed import Feed
from gancore.errors import DataError, StorageError
from gancore_plugins.datasets import picture_cache
from gancore_plugins.datasets.folder import Folder

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def paint(path, size=(8, 8), color=RED, mode="RGB", **options):
    """Save a picture of one color, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)
    return path


def two_colors(path, size=(8, 8), **options):
    """Save a picture that is red on the left and blue on the right."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def opened(folder, root, **fields):
    return Folder(path=str(folder), **{"size": 4, **fields}).build(root)


def color(image):
    """The color of an image (C, H, W) that has only one."""
    first = image[:, :1, :1]
    assert torch.equal(image, first.expand_as(image))
    return tuple(first.flatten().tolist())


def failure(folder, root, **fields):
    with pytest.raises(DataError) as caught:
        opened(folder, root, **fields)
    assert caught.value.hint
    return caught.value.message


@given(
    count=st.integers(1, 5),
    size=st.integers(1, 9) | st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([1, 3, 4]),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    suffix=st.sampled_from([".png", ".PNG", ".jpg", ".jpeg", ".bmp", ".webp"]),
)
@settings(max_examples=30)
def test_folder_images_have_the_requested_form(tmp_path_factory, count, size, channels, fit, sides, suffix):
    folder, root = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("root")
    for number in range(count):
        paint(folder / f"{number}{suffix}", sides)
    shape = (channels, *(size if isinstance(size, tuple) else (size, size)))
    dataset = opened(folder, root, size=size, channels=channels, fit=fit)
    assert len(dataset) == count
    assert Folder(path=str(folder), size=size, channels=channels).outline().shape == shape
    for image in dataset:
        assert image.shape == shape
        assert image.dtype == torch.uint8
    assert not hasattr(dataset, "classes")
    assert not dataset.mirrors
    assert Feed(dataset, batch_size=1, seed=0, device=torch.device("cpu")).shape == shape


def test_folder_finds_pictures_at_any_depth_sorted_by_path(tmp_path):
    paint(tmp_path / "in" / "b" / "deep" / "1.png", color=BLUE)
    paint(tmp_path / "in" / "a.png", color=RED)
    paint(tmp_path / "in" / "c.jpg", color=WHITE)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert [color(image) for image in opened(tmp_path / "in", tmp_path / "root")][:2] == [RED, BLUE]
    assert len(opened(tmp_path / "in", tmp_path / "root")) == 3


def test_folder_classes_are_its_subfolders(tmp_path):
    paint(tmp_path / "in" / "dogs" / "1.png", color=BLUE)
    paint(tmp_path / "in" / "cats" / "deep" / "1.png", color=RED)
    paint(tmp_path / "in" / "cats" / "2.png", color=WHITE)
    dataset = opened(tmp_path / "in", tmp_path / "root", classes=True, mirrors=True)
    assert dataset.classes == ("cats", "dogs")
    assert [(color(image), label) for image, label in dataset] == [(WHITE, 0), (RED, 0), (BLUE, 1)]
    assert dataset.mirrors
    component = Folder(path=str(tmp_path / "in"), size=4, classes=True)
    assert component.outline() == Outline(3, (3, 4, 4), ("cats", "dogs"), (3, 8, 8))


@pytest.mark.parametrize(
    ("fit", "corner", "middle"), [("crop", RED, BLUE), ("stretch", RED, BLUE), ("pad", (0, 0, 0), BLUE)]
)
def test_folder_fit_crops_pads_or_stretches(tmp_path, fit, corner, middle):
    two_colors(tmp_path / "in" / "1.png", (16, 8))
    image = opened(tmp_path / "in", tmp_path / "root", size=8, fit=fit)[0]
    near = (image.float() / 255).round().int() * 255  # rounded, since the filter overshoots at edges
    assert tuple(near[:, 0, 0].tolist()) == corner
    assert tuple(near[:, 4, 6].tolist()) == middle


@pytest.mark.parametrize(("channels", "corner"), [(1, (255,)), (3, WHITE), (4, (0, 0, 0, 0))])
def test_folder_fit_pads_a_picture_with_transparency_as_it_is_placed(tmp_path, channels, corner):
    paint(tmp_path / "in" / "1.png", (16, 8), (*BLUE, 128), "RGBA")
    image = opened(tmp_path / "in", tmp_path / "root", size=8, fit="pad", channels=channels)[0]
    assert tuple(image[:, 0, 0].tolist()) == corner
    assert tuple(image[:, 4, 4].tolist()) not in (corner, (0, 0, 0))


@given(height=st.integers(1, 12), width=st.integers(1, 12), double=st.booleans())
@settings(max_examples=20)
def test_folder_size_is_height_and_width(tmp_path_factory, height, width, double):
    folder, root = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("root")
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    rows = [np.zeros_like(pixels)] * double  # which are cropped
    Image.fromarray(np.concatenate([*rows, pixels, *rows])).save(folder / "1.png")
    (image,) = opened(folder, root, size=(height, width))
    assert torch.equal(image, torch.from_numpy(pixels.transpose(2, 0, 1)))
    square = Folder(path=str(folder), size=[height, height])
    assert square.size == height
    assert square == Folder(path=str(folder), size=height)


@pytest.mark.parametrize("size", [0, 4097, [8, 0], [8, 4097], [8], [8, 8, 8], "8", 8.0, True])
def test_folder_refuses_sizes_that_are_not_pixels(size):
    with pytest.raises(ValidationError, match=r"from 1 to 4096, or two: \[height, width\]"):
        Folder(path="pictures", size=size)


def test_folder_channels_convert_gray_and_transparent_pictures(tmp_path):
    paint(tmp_path / "in" / "1.png", color=(255, 0, 0, 0), mode="RGBA")
    paint(tmp_path / "in" / "2.png", color=100, mode="L")
    paint(tmp_path / "in" / "3.png", color=(0, 0, 255, 255), mode="RGBA")
    root = tmp_path / "root"
    assert [color(image) for image in opened(tmp_path / "in", root)] == [WHITE, (100,) * 3, BLUE]
    assert [color(image) for image in opened(tmp_path / "in", root, channels=1)] == [(255,), (100,), (29,)]
    assert color(opened(tmp_path / "in", root, channels=4)[0])[3] == 0
    assert color(opened(tmp_path / "in", root, channels=4)[1]) == (100, 100, 100, 255)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_folder_applies_exif_orientation(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "in" / f"1.{suffix}"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif, quality=100)
    with Image.open(path) as photograph:
        upright = np.asarray(ImageOps.exif_transpose(photograph)).transpose(2, 0, 1)
    height, width = upright.shape[1:]
    assert (height, width) == ((16, 8) if orientation in range(5, 9) else (8, 16))
    component = Folder(path=str(path.parent), size=(height, width))
    assert np.array_equal(component.build(tmp_path / "root")[0], upright)
    assert component.findings(tmp_path / "root").facts["sizes"].startswith(f"all {width}x{height}")


@pytest.mark.parametrize(("begins", "left"), [(b"II*\0", BLUE), (b"XX*\0", RED)], ids=["TIFF", "nothing known"])
def test_folder_accepts_exif_with_tags_of_a_wrong_type(tmp_path, begins, left):
    width, upside_down = struct.pack("<HHI4s", 0x0100, 2, 4, b"odd"), struct.pack("<HHIHH", 0x0112, 3, 1, 3, 0)
    exif = b"Exif\0\0" + begins + struct.pack("<IH", 8, 2) + width + upside_down + bytes(4)
    two_colors(tmp_path / "in" / "1.jpg", (16, 16), exif=exif, quality=100)
    image = opened(tmp_path / "in", tmp_path / "root")[0]
    assert (image[:, 0, 0] > 128).tolist() == [value > 128 for value in left]


def test_folder_decodes_once_and_reports_progress(tmp_path, monkeypatch):
    for number in range(4):
        paint(tmp_path / "in" / f"{number}.png")
    component = Folder(path=str(tmp_path / "in"), size=4, bits=8)
    assert list(component.prepare(tmp_path / "root")) == [0.25, 0.5, 0.75, 1.0]
    files = sorted((tmp_path / "root" / "folders").iterdir())
    assert [path.suffix for path in files] == [".npy", ".npz"]
    monkeypatch.setattr(Image, "open", None)
    assert list(component.prepare(tmp_path / "root")) == []
    assert len(component.build(tmp_path / "root")) == 4
    assert sorted((tmp_path / "root" / "folders").iterdir()) == files
    array = np.load(files[0], allow_pickle=False)
    assert (array.dtype, array.shape) == (np.uint8, (4, 3, 4, 4))


def test_folder_memory_maps_its_cache(tmp_path):
    paint(tmp_path / "in" / "1.png")
    assert isinstance(opened(tmp_path / "in", tmp_path / "root")._images, np.memmap)


def test_folder_cache_is_decoded_again_if_truncated(tmp_path):
    paint(tmp_path / "in" / "1.png", color=BLUE)
    opened(tmp_path / "in", tmp_path / "root")
    (cache,) = (tmp_path / "root" / "folders").glob("*.npy")
    for keep in (0, 60, -1):
        cache.write_bytes(cache.read_bytes()[:keep])
        assert color(opened(tmp_path / "in", tmp_path / "root")[0]) == BLUE


@pytest.mark.parametrize("change", ["color", "more", "fewer", "size", "fit"])
def test_folder_cache_is_decoded_again_after_a_change(tmp_path, change):
    folder, fields = tmp_path / "in", {}
    paint(folder / "1.png", color=BLUE)
    paint(folder / "2.png")
    opened(folder, tmp_path / "root")
    if change == "color":
        later = time.time_ns() + 10**9
        os.utime(paint(folder / "1.png", color=RED), ns=(later, later))
    elif change == "more":
        paint(folder / "3.png")
    elif change == "fewer":
        (folder / "1.png").unlink()
    else:
        fields = {"size": {"size": 5}, "fit": {"fit": "pad"}}[change]
    dataset = opened(folder, tmp_path / "root", **fields)
    assert len(dataset) == {"more": 3, "fewer": 1}.get(change, 2)
    assert color(dataset[0]) == (RED if change in ("color", "fewer") else BLUE)
    assert len(list((tmp_path / "root" / "folders").glob("*.npy"))) == 2


def test_folder_names_a_picture_that_pillow_fails_on(tmp_path):
    path = paint(tmp_path / "in" / "1.png")
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 5] ^= 1  # Pillow raises SyntaxError
    path.write_bytes(data)
    assert "can be read: 1.png: " in failure(tmp_path / "in", tmp_path / "root")


def test_folder_cache_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    paint(tmp_path / "in" / "1.png")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write decoded pictures to") as caught:
        opened(tmp_path / "in", tmp_path / "file")
    assert "--data-dir" in caught.value.hint
    monkeypatch.setattr(picture_cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1))
    with pytest.raises(StorageError, match="48 bytes are needed, and 1 are free"):
        opened(tmp_path / "in", tmp_path / "root")


def test_folder_pickles_its_path_and_not_the_pixels(tmp_path):
    paint(tmp_path / "in" / "cats" / "1.png")
    dataset = opened(tmp_path / "in", tmp_path / "root", size=256, classes=True, mirrors=True)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 5000
    again = pickle.loads(pickled)  # noqa: S301  # pickled two lines above
    assert (again.classes, again.mirrors, len(again)) == (("cats",), True, 1)
    assert torch.equal(again[0][0], dataset[0][0])


def test_folder_memory_for_many_pictures_is_little_more_than_their_names(tmp_path):
    first, count = paint(tmp_path / "in" / "00" / "00000.png"), 5000
    for number in range(1, count):
        path = tmp_path / "in" / f"{number // 200:02}" / f"{number:05}.png"
        path.parent.mkdir(exist_ok=True)
        os.link(first, path)
    opened(tmp_path / "in", tmp_path / "root", classes=True)
    tracemalloc.start()
    dataset = opened(tmp_path / "in", tmp_path / "root", classes=True)
    allocated, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [dataset[number][1] for number in (0, 199, 200, count - 1)] == [0, 0, 1, 24]
    assert allocated < 8 * count + 50_000  # labels only; the names are freed
    assert (
        peak < 2 * (len("00/00000.png") + 57) * count + 400_000
    )  # strings, and keys to sort them by; then read buffers


@pytest.mark.parametrize("name", ["absent", "empty", "file.txt"])
def test_folder_without_pictures_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    message = failure(tmp_path / name, tmp_path / "root")
    assert str(Path(tmp_path / name)) in message
