"""Animations of samples, and of the pictures that a run drew."""

import io
import json
import sys
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from gancore.errors import CheckpointError, ConfigError, DataError
from gancore.sampling.animation import PictureStyle, changes_by
from gancore.sampling.draw import SampleStream
from gancore.sampling.grid import Layout, grid, pixels, scatter
from gancore.sampling.timelapse import timelapse
from gancore.sampling.write import save_samples, written

FORMS = ["webp", "gif", "mp4"]


def images(count, channels=1, size=(5, 8), seed=0):
    """Images that all differ, each of one color."""
    colors = torch.randperm(256, generator=torch.Generator().manual_seed(seed))[: count * channels]
    return colors.byte().view(count, channels, 1, 1).expand(-1, -1, *size).contiguous()


def frames_of(path):
    """The frames as arrays, RGB for MP4, else RGBA, and the duration of all in seconds."""
    if path.suffix == ".mp4":
        with av.open(path) as video:
            stream = video.streams.video[0]
            assert stream.codec_context.pix_fmt == "yuv420p"
            return [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)], Fraction(
                video.duration, av.time_base
            )
    with Image.open(path) as file:
        durations, frames = [], []
        for frame in ImageSequence.Iterator(file):
            frames.append(np.asarray(frame.convert("RGBA")))
            durations.append(frame.info["duration"])
        assert file.info["loop"] == 0
        return frames, Fraction(sum(durations), 1000)


@given(
    form=st.sampled_from(FORMS),
    frames=st.integers(2, 6),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    upscale=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    fps=st.sampled_from([4, 12.5, 20, 30]),
)
@settings(max_examples=30)
def test_animation_has_every_frame_in_its_size_and_time(
    tmp_path_factory, form, frames, rows, columns, upscale, channels, fps
):
    out = tmp_path_factory.mktemp("out") / f"a.{form}"
    samples = images(frames * rows * columns, channels)
    save_samples(samples, out, grid=(rows, columns), upscale=upscale, fps=fps)
    shown, seconds = frames_of(out)
    assert len(shown) == frames
    assert abs(seconds - Fraction(frames) / Fraction(fps)) <= Fraction(1, 100)
    for number, frame in enumerate(shown):
        part = samples[number * rows * columns : (number + 1) * rows * columns]
        expected = np.asarray(grid(part, Layout((rows, columns), upscale)).convert("RGBA")).astype(int)
        height, width = expected.shape[:2]
        if form == "mp4":
            assert frame.shape[:2] == (height + height % 2, width + width % 2)
            assert np.abs(frame[:height, :width] - expected[..., :3]).mean() < 16  # of 255: it is compressed
        else:
            assert np.array_equal(frame, expected)


def test_animation_of_the_same_samples_has_the_same_bits(tmp_path):
    for form in FORMS:
        for name in "ab":
            save_samples(images(4, 3), tmp_path / f"{name}.{form}")
        assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()


def test_transparent_images_stay_so_in_webp_and_are_on_white_elsewhere(tmp_path):
    samples = images(3, 4, (16, 16))
    samples[:, 3] = 0
    for form in FORMS:
        save_samples(samples, tmp_path / f"a.{form}", upscale=1)
        frames, _ = frames_of(tmp_path / f"a.{form}")
        assert (frames[0][..., 3] == 0).all() if form == "webp" else (frames[0] >= 250).all()
    stream = SampleStream(3, (4, 16, 16), torch.uint8, lambda start: samples[start:])
    said = {form: " ".join(changes_by(form, stream, PictureStyle())) for form in FORMS}
    assert said["webp"] == ""
    assert "on white" in said["gif"]
    assert "256 colors" in said["gif"]
    assert "on white" in said["mp4"]


def test_odd_sizes_in_mp4_are_said():
    stream = SampleStream(3, (1, 5, 7), torch.uint8, lambda start: torch.zeros(3, 1, 5, 7))
    assert list(changes_by("mp4", stream, PictureStyle(layout=Layout(upscale=1)))) == [
        "the frames have 8 x 6 pixels instead of 7 x 5: H.264 needs even sizes"
    ]
    assert list(changes_by("mp4", stream, PictureStyle(layout=Layout(upscale=2)))) == []


def test_points_keep_one_frame_for_all_pictures(tmp_path):
    points = torch.rand(8, 2)
    real = torch.rand(9, 2) * 3
    save_samples(points, tmp_path / "a.webp", real)
    frames, _ = frames_of(tmp_path / "a.webp")
    assert np.array_equal(frames[3], np.asarray(scatter(points[3:4], real).convert("RGBA")))
    save_samples(points, tmp_path / "b.webp")
    frames, _ = frames_of(tmp_path / "b.webp")
    assert np.array_equal(frames[3], np.asarray(scatter(points[3:4], None, points).convert("RGBA")))


@pytest.mark.parametrize("shape", [(2, 30), (1, 8, 8)])
def test_floats_keep_one_scale_for_all_frames(tmp_path, shape):
    samples = torch.arange(6.0).view(-1, *[1] * len(shape)).expand(-1, *shape).contiguous()
    save_samples(samples, tmp_path / "a.webp")
    frames, _ = frames_of(tmp_path / "a.webp")
    assert len({frame.tobytes() for frame in frames}) == 6
    drawn = []

    def chunk(start):
        drawn.append(start)
        return samples[start : start + 1]

    save_samples(SampleStream(6, shape, torch.float32, chunk, chunk_size=1), tmp_path / "b.webp")
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()


@pytest.mark.parametrize(
    ("out", "shape", "options", "words"),
    [
        ("a.webp", (4, 1, 8, 8), {"grid": (3, 1)}, "frames of 3 samples each do not divide 4 samples"),
        ("a.webp", (4, 1, 8, 8), {"grid": (2, 2)}, "two frames or more; received 1"),
        ("a.gif", (4, 1, 8, 8), {"fps": 60}, "at most 50 frames per second, and at least 0.1; received 60"),
        ("a.webp", (4, 1, 8, 8), {"fps": 0}, "received 0"),
        ("a.gif", (4, 1, 8, 8), {"fps": 1e-9}, "received 1e-09"),
        ("a.webp", (4, 1, 8, 8), {"fps": float("nan")}, "received nan"),
        ("a.gif", (80, 1, 1, 1), {"fps": 0.1}, "as the ones that do not differ take"),
        ("a.webp", (4, 1, 8, 8), {"upscale": 0}, "must be at least 1"),
        ("a.webp", (4, 1, 8, 8), {"upscale": 5000}, "at most 16,383 pixels a side; received 40,000 x 40,000"),
        ("a.webp", (4, 1, 8, 8), {"upscale": 1000}, "4 frames of 8,000 x 8,000 pixels do not fit"),
        ("a.webp", (4, 5, 8, 8), {}, "images of 1, 3 or 4 channels"),
        ("a.webp", (4, 3), {}, "images of 1, 3 or 4 channels"),
        ("a.webp", (4, 2), {"upscale": 2}, "upscale has no effect on a plot of points"),
        ("a.png", (4, 2), {"grid": (2, 2)}, "grid has no effect on a plot of points"),
        ("a.png", (4, 1, 8, 8), {"fps": 20}, r"fps has no effect on a\.png"),
        ("a.npy", (4, 1, 8, 8), {"upscale": 2}, r"upscale has no effect on a\.npy"),
        ("a.npy", (4, 1, 8, 8), {"grid": (2, 2)}, r"grid has no effect on a\.npy"),
        ("folder", (4, 1, 8, 8), {"grid": (2, 2)}, "grid has no effect on folder"),
        ("a.png", (7, 1, 8, 8), {"grid": (2, 3)}, "a grid of 2 x 3 does not show 7 samples"),
        ("a.png", (4, 1, 8, 8), {"grid": (999999, 999999)}, "received a grid of 999,999 x 999,999"),
        ("a.png", (4, 1, 8, 8), {"upscale": 9999}, "one picture shows at most 1 samples"),
    ],
)
def test_style_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, out, shape, options, words):
    with pytest.raises(ConfigError, match=words):
        save_samples(torch.zeros(shape, dtype=torch.uint8), tmp_path / out, **options)
    assert not list(tmp_path.iterdir())


def test_mp4_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match="needs PyAV, which is not installed") as error:
        save_samples(images(3), tmp_path / "a.mp4")
    assert error.value.hint == "pip install 'gancore[video]'"
    monkeypatch.delitem(sys.modules, "av")
    (tmp_path / "av.py").write_text("raise ImportError('its library is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="PyAV, which cannot be imported: ImportError: its library is missing"):
        save_samples(images(3), tmp_path / "a.mp4")


@pytest.mark.parametrize("form", FORMS)
def test_interrupted_animation_keeps_whole_frames(tmp_path, form):
    samples = images(10)

    def chunk(start):
        if start == 7:
            raise KeyboardInterrupt
        return samples[start : start + 1]

    stream = SampleStream(10, samples.shape[1:], torch.uint8, chunk, chunk_size=1)
    with pytest.raises(KeyboardInterrupt) as error:
        save_samples(stream, tmp_path / f"a.{form}", grid=(1, 2))
    assert error.value.kept == f"6 of 10 samples in {tmp_path / f'a.partial.{form}'}"
    assert len(frames_of(tmp_path / f"a.partial.{form}")[0]) == 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("shape", "dtype"), [((2,), torch.float32), ((1, 5), torch.float32), ((1, 5, 8), torch.uint8)])
def test_animation_that_ends_before_its_first_frame_keeps_nothing(tmp_path, shape, dtype):
    def chunk(start):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as error:
        save_samples(SampleStream(10, shape, dtype, chunk, chunk_size=1), tmp_path / "a.webp")
    assert error.value.kept == ""
    assert not list(tmp_path.iterdir())


def test_animation_draws_each_image_once(tmp_path):
    samples, drawn = images(4), []

    def chunk(start):
        drawn.append(start)
        return samples[start : start + 1]

    save_samples(SampleStream(4, samples.shape[1:], torch.uint8, chunk, chunk_size=1), tmp_path / "a.webp")
    assert drawn == [0, 1, 2, 3]


def test_grid_and_upscale_of_a_picture_and_a_folder(tmp_path):
    samples = images(6)
    save_samples(samples, tmp_path / "a.png", grid=(2, 3), upscale=3)
    with Image.open(tmp_path / "a.png") as shown:
        assert shown.size == ((3 * 9 + 1) * 3, (2 * 6 + 1) * 3)
        assert torch.equal(pixels(shown), pixels(grid(samples, Layout((2, 3), 3))))
    save_samples(samples, tmp_path / "folder", upscale=3)
    with Image.open(tmp_path / "folder" / "0004.png") as shown:
        assert shown.size == (24, 15)
        assert torch.equal(pixels(shown)[:, ::3, ::3], samples[4])


@pytest.mark.parametrize("count", [1, 4, 6])
def test_grid_of_fewer_samples_than_places_is_black_at_its_end(tmp_path, count):
    samples = images(6)
    save_samples(samples[:count], tmp_path / "a.png", grid=(2, 3), upscale=1)
    with Image.open(tmp_path / "a.png") as shown:
        expected = torch.cat([samples[:count], torch.zeros_like(samples[count:])])
        assert torch.equal(pixels(shown), pixels(grid(expected, Layout((2, 3), 1))))


def run_with(path, sizes, log=(), mode="L"):
    """A folder of a run with a picture of each size."""
    (path / "samples").mkdir(parents=True)
    for step, size in sizes.items():
        Image.new(mode, size, step % 256 if mode == "L" else None).save(path / "samples" / f"step-{step:08d}.png")
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return path


def test_timelapse_has_all_pictures_in_order_with_a_strip_below(tmp_path):
    sizes = {120: (40, 30), 7: (40, 30), 99999999: (50, 20)}
    run = run_with(tmp_path / "run", sizes, [{"step": 100, "kimg": 6.4}, {"step": 200, "kimg": 12.8}])
    Image.new("L", (3, 3)).save(run / "samples" / "real.png")
    frames = timelapse(run)
    assert (frames.count, frames.shape, frames.dtype) == (3, (1, 50, 50), torch.uint8)
    shown = torch.cat(list(frames))
    assert (shown[0, 0, :30, :40] == 7).all()
    assert (shown[1, 0, :30, :40] == 120).all()
    assert (shown[:, 0, 30:] == 255).any()
    assert not torch.equal(shown[0, 0, 30:], shown[1, 0, 30:])
    save_samples(frames, tmp_path / "a.gif", fps=4)
    assert frames_of(tmp_path / "a.gif")[1] == Fraction(3, 4)


@pytest.mark.parametrize("side", [8_000, 20_000])  # Pillow itself refuses the second
def test_timelapse_refuses_a_picture_that_is_too_large(tmp_path, side):
    run = run_with(tmp_path / "run", {1: (9, 9), 2: (9, 9)})
    path = run / "samples" / "step-00000002.png"
    content = path.read_bytes()
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + content[24:29]
    path.write_bytes(content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:])
    with pytest.raises(DataError, match=r"step-00000002\.png cannot be shown: it has more than 50,000,000 pixels"):
        timelapse(run)


def test_timelapse_raises_data_error_for_a_picture_that_was_removed_meanwhile(tmp_path):
    run = run_with(tmp_path / "run", {1: (9, 9), 2: (9, 9)})
    frames = timelapse(run)
    (run / "samples" / "step-00000002.png").unlink()
    with pytest.raises(DataError, match=r"step-00000002\.png is missing"):
        list(frames)


def test_timelapse_refuses_what_is_no_run_and_damaged_pictures(tmp_path):
    with pytest.raises(CheckpointError, match="is no run"):
        timelapse(tmp_path)
    run = run_with(tmp_path / "run", {1: (9, 9)})
    with pytest.raises(ConfigError, match="needs two pictures"):
        timelapse(run)
    picture = io.BytesIO()
    Image.new("L", (9, 9)).save(picture, "PNG")
    damaged = run / "samples" / "step-00000002.png"
    for content in (b"", b"GIF89a", picture.getvalue()[:40]):
        damaged.write_bytes(content)
        with pytest.raises(DataError, match=r"step-00000002\.png cannot be shown"):
            timelapse(run)


def test_written_animation_says_how_many_samples_it_has(tmp_path):
    samples = images(6)
    stream = SampleStream(6, samples.shape[1:], torch.uint8, lambda start: samples[start : start + 1], chunk_size=1)
    style = PictureStyle(layout=Layout((1, 2)), per_frame=2)
    assert list(written(stream, tmp_path / "a.webp", style)) == [0, 2, 2, 4, 4, 6]
