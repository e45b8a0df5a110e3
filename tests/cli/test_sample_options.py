"""What `gancore sample` draws with the options for seeds, classes, latents, walks and animations."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancore import load
from gancore.sampling.latents import interpolate, parse_seeds, truncate
from helpers.model_folders import folder_of, untrained

FORKED = True


@pytest.fixture
def conditional(gancore):
    """The command in a folder with a generator in `model` that is conditional on ten classes."""
    folder_of(untrained(gancore.folder / "x.safetensors", condition=10), gancore.folder / "model")
    return gancore


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seeds", "1", "-n", 3], "--seeds and --count"),
        (["--seeds", "1", "--seed", 0], "--seeds and --seed"),
        (["--seeds", "1", "--interpolate", "1,2"], "--seeds and --interpolate"),
        (["--interpolate", "1,2", "--seed", 3], "--interpolate and --seed"),
        (["--latents", "a-file.npy", "--seeds", "3"], "--seeds and --latents"),
        (["--frames", 3], "--frames needs --interpolate"),
        (["--timelapse", "--seeds", "3"], "--timelapse and --seeds"),
        (["--timelapse", "--raw"], "--timelapse and --raw"),
        (["--timelapse", "--device", "cpu"], "--timelapse and --device"),
        (["--grid", "3"], "not ROWSxCOLUMNS"),
        (["--grid", "0x3"], "not ROWSxCOLUMNS"),
        (["--move", "1"], "not INDEX=AMOUNT"),
        (["--move", "1=2", "--move", "1=3"], "direction 1 is given twice"),
        (["--truncation", 1.5], "0<=x<=1"),
        (["--seeds", "3-1"], "runs backward"),
        (["--interpolate", "3"], "two latents or more"),
        (["--move", "999=1"], "there is no direction 999"),
        (["--out", "-"], "'-' is no file or folder"),
        (["--fps", 3], "fps has no effect on samples.png"),
        (["--upscale", 2, "--out", "a.npy"], r"upscale has no effect on a.npy"),
        (["--set", "on_error=skip"], "--set needs --condition"),
        (["--condition", "a-file.npy"], "the run is not conditional, so it takes no --condition"),
        (["--grid", "3x4", "-n", 13], "a grid of 3 x 4 does not show 13 samples"),
    ],
)
def test_sample_refuses_options_that_do_not_fit(finished, options, words):
    (finished.folder / "a-file.npy").touch()
    assert words in finished.fails(2, "sample", "runs/0001", *options)


def test_sample_draws_seeds_latents_and_walks_to_the_bits_of_python(finished):
    trained = load(finished.folder / "runs" / "0001", device="cpu")
    latents = trained.seed_latents(parse_seeds("3-5,9"))
    np.save(finished.folder / "latents.npy", latents.numpy())
    finished.works("sample", "runs/0001", "--seeds", "3-5,9", "--truncation", 0.7, "--out", "seeds.npy")
    finished.works("sample", "runs/0001", "--latents", "latents.npy", "--out", "file.npy")
    finished.works("sample", "runs/0001", "--interpolate", "3,9", "--frames", 5, "--out", "walk.npy")
    finished.works("sample", "runs/0001", "-n", 4, "--truncation", 0.7, "--out", "few.npy")
    arrays = {
        name: torch.from_numpy(np.load(finished.folder / f"{name}.npy")) for name in ("seeds", "file", "walk", "few")
    }
    assert torch.equal(arrays["seeds"], trained.generate(truncate(latents, 0.7)))
    assert torch.equal(arrays["file"], trained.generate(latents))
    assert torch.equal(arrays["walk"], trained.generate(interpolate(latents[[0, 3]], 5)))
    assert torch.equal(arrays["few"], trained.sample(4, truncation=0.7))


def test_sample_of_classes_says_the_class_of_each_row(conditional):
    options = "model", "--class", 3, "--class", 7, "--seeds", "0-4", "--out", "a.png"
    done = conditional.works("sample", *options)
    assert done.stdout == "10 samples of step 7, with a row for each class: 3, 7: a.png\n"
    document = json.loads(conditional.works("sample", *options, "--json").stdout)
    assert (document["count"], document["rows"], document["grid"]) == (10, ["3", "7"], [2, 5])
    assert (document["seed"], document["seeds"], document["class"]) == (None, "0-4", None)
    with Image.open(conditional.folder / "a.png") as shown:
        assert shown.size == ((5 * 5 + 1) * 16, (2 * 5 + 1) * 16)


def test_sample_of_classes_takes_no_conditions(conditional):
    np.save(conditional.folder / "a.npy", np.zeros((1, 2), np.float32))
    error = conditional.fails(2, "sample", "model", "--condition", "a.npy")
    assert "the run is conditional on 10 classes, so it takes no --condition" in error


def test_sample_draws_under_the_conditions_of_a_file(gancore):
    folder_of(untrained(gancore.folder / "x.safetensors", condition=(2,)), gancore.folder / "model")
    conditions = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    np.save(gancore.folder / "three.npy", conditions)
    np.save(gancore.folder / "one.npy", conditions[:1])
    np.save(gancore.folder / "holed.npy", np.insert(conditions, 1, np.nan, axis=0))
    trained, given = load(gancore.folder / "model", device="cpu"), torch.from_numpy(conditions)
    for words, expected in (
        (["three.npy"], trained.sample(3, conditions=given)),
        (["three.npy", "-n", 2], trained.sample(2, conditions=given[:2])),
        (["one.npy", "-n", 5], trained.sample(5, conditions=given[0])),
        (["holed.npy", "--set", "on_error=skip"], trained.sample(3, conditions=given)),
    ):
        gancore.works("sample", "model", "--out", "drawn.npy", "--condition", *words)
        assert torch.equal(torch.from_numpy(np.load(gancore.folder / "drawn.npy")), expected), words


def test_sample_makes_an_animation(finished):
    options = "runs/0001", "--interpolate", "3,7", "--frames", 6, "--grid", "2x2", "--upscale", 3
    done = finished.works("sample", *options, "--out", "walk.webp")
    assert done.stdout == "24 samples of step 4 in 6 frames: walk.webp\n"
    with Image.open(finished.folder / "walk.webp") as shown:
        assert (shown.n_frames, shown.size) == (6, ((2 * 9 + 1) * 3, (2 * 9 + 1) * 3))
    done = finished.works("sample", *options, "--out", "walk.mp4")
    assert done.stderr == "note: the frames have 58 x 58 pixels instead of 57 x 57: H.264 needs even sizes\n"


def test_sample_makes_a_timelapse_without_a_checkpoint(finished, gancore):
    run = gancore.folder / "run"
    (run / "samples").mkdir(parents=True)
    pictures = sorted((finished.folder / "runs" / "0001" / "samples").glob("step-*.png"))
    for picture in pictures:
        (run / "samples" / picture.name).write_bytes(picture.read_bytes())
    assert len(pictures) == 2
    done = gancore.works("sample", "run", "--timelapse")
    assert done.stdout == "2 pictures of the training of run: timelapse.webp\n"
    with Image.open(gancore.folder / "timelapse.webp") as shown:
        assert shown.n_frames == 2
    document = json.loads(gancore.works("sample", "run", "--timelapse", "--out", "a.gif", "--json").stdout)
    assert (document["count"], document["fps"]) == (2, 4)
    (run / "samples" / pictures[0].name).unlink()
    assert "needs two pictures" in gancore.fails(2, "sample", "run", "--timelapse")
    assert "is no run" in gancore.fails(4, "sample", Path("nowhere"), "--timelapse")
