import json
import os
import shlex
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import gancore
from gancore.sampling.project import distances
from gancore.utils.sample_format import UINT8
from helpers.cli_runner import BY_HAND

FORKED = True
FEW = ("--steps", 20)


def pictures(command, count):
    """Write samples of the run as larger pictures, and return what is read of them."""
    trained = gancore.load(command.folder / "runs/0001", device="cpu")
    paths = [command.folder / f"image-{number}.png" for number in range(count)]
    for path, sample in zip(paths, trained.sample(count, seed=9), strict=True):
        Image.fromarray(sample[0].numpy()).resize((16, 16)).save(path)
    return trained, torch.cat([gancore.read_images(path, trained.shape) for path in paths])


def test_project_writes_latents_whose_samples_are_near_the_images(finished):
    trained, samples = pictures(finished, 2)
    done = finished.works("project", "runs/0001", "image-0.png", "image-1.png", *FEW, "--out", "out/found.npy")
    latents = torch.from_numpy(np.load(finished.folder / "out/found.npy"))
    assert (latents.shape, latents.dtype) == ((2, 100), torch.float32)
    header, *rows, own, where, comparison, command = done.stdout.splitlines()
    assert header.split() == ["image", "distance", "random", "samples"]
    others = trained.sample(64)
    for number, row in enumerate(rows):
        name, distance, usual = row.split()
        found = trained.generate(latents[number : number + 1])
        assert name == f"image-{number}.png"
        assert distance == f"{float(distances(found, samples[number], UINT8)):.4g}"
        assert usual == f"{float(distances(others, samples[number], UINT8).mean()):.4g}"
        assert float(distance) < 0.7 * float(usual)
    assert own.startswith("a sample of the generator itself: distance ")
    assert (where, comparison) == ("latents: out/found.npy", "comparison: out/found-comparison.png")
    assert command.startswith("draw the samples: gancore sample runs/0001/checkpoints/step-00000004.safetensors --lat")
    with Image.open(finished.folder / "out/found-comparison.png") as picture:
        shown = np.asarray(picture)[::8, ::8]
    assert shown.shape == (19, 19)  # two rows of two tiles with lines between them
    assert np.array_equal(shown[1:9, 1:9], samples[0, 0].numpy())
    assert np.array_equal(shown[10:18, 10:18], trained.generate(latents[1:])[0, 0].numpy())


def test_project_prints_one_document_and_is_repeatable(finished):
    pictures(finished, 1)
    arguments = ("project", "runs/0001", "image-0.png", *FEW, "--json", "--seed", 3)
    document = json.loads(finished.works(*arguments, "--out", "a").stdout)
    again = json.loads(finished.works(*arguments, "--out", "b").stdout)
    assert document["images"] == again["images"]
    (image,) = document["images"]
    assert image.keys() == {"image", "distance", "random_distance", "class", "class_number", "start"}
    assert (image["class"], image["start"], document["seed"]) == (None, "random", 3)
    assert (document["out"], document["comparison"]) == ("a/latents.npy", "a/comparison.png")
    assert np.array_equal(np.load(finished.folder / "a/latents.npy"), np.load(finished.folder / "b/latents.npy"))
    assert shlex.split(document["commands"][0])[-2:] == ["--out", "a/latents-samples.png"]


def test_project_writes_the_latents_of_each_class_apart(gancore):
    gancore.works(
        "train", *BY_HAND, "--steps", 2, "--set", "training.conditional=true", "--set", "latent.dim=4",
        "--out", "runs/0001",
    )  # fmt: skip
    pictures(gancore, 4)
    images = [f"image-{number}.png" for number in range(4)]
    document = json.loads(
        gancore.works("project", "runs/0001", *images, "--steps", 60, "--json", "--out", "all").stdout
    )
    labels, latents = (
        [image["class_number"] for image in document["images"]],
        np.load(gancore.folder / "all/latents.npy"),
    )
    assert len(document["commands"]) == len(set(labels)) > 1
    for label in set(labels):
        part = np.load(gancore.folder / f"all/latents-class-{label}.npy")
        assert np.array_equal(part, latents[np.array(labels) == label])
    given = gancore.works("project", "runs/0001", *images, *FEW, "--class", 3, "--json", "--out", "three.npy")
    assert {image["class"] for image in json.loads(given.stdout)["images"]} == {"3"}
    assert "--class=3" in shlex.split(json.loads(given.stdout)["commands"][0])


def test_project_that_a_signal_ends_keeps_the_best_latents_so_far(finished, zygote, tmp_path):
    pictures(finished, 1)
    arguments = [finished.folder / "runs/0001", finished.folder / "image-0.png", "--steps", "1000000"]
    process = zygote.start(tmp_path, "project", *arguments)
    assert zygote.wait_for_line(process) == "searching for latents"
    os.kill(process, signal.SIGINT)
    done = zygote.wait(process)
    assert (done.returncode, done.stdout) == (130, "")
    kept = "kept: the best latents so far, for 1 of 1 image, in projection.npy"
    assert done.stderr.splitlines()[-3:-1] == ["error: interrupted", kept]
    assert {path.name for path in tmp_path.iterdir()} == {"projection.npy", "projection-comparison.png"}
    assert np.load(tmp_path / "projection.npy").shape == (1, 100)


@pytest.mark.parametrize(
    ("code", "arguments", "problem"),
    [
        (4, ("nowhere", "image-0.png"), "there is no run in nowhere"),
        (3, ("runs/0001", "missing.png"), "there is no file or folder missing.png"),
        (3, ("runs/0001", "text.png"), "no dataset reads text.png"),
        (3, ("runs/0001", "points.npy"), r"points.npy has samples of shape (2,), float32; the run's data has shape"),
        (2, ("runs/0001", "image-0.png", "--class", 1), "the run is not conditional"),
        (2, ("runs/0001", "image-0.png", "--condition", "image-0.png"), "so it takes no --condition"),
        (2, ("runs/0001", "image-0.png", "--out", "a.jpg"), "--out must end in .npy, or be a folder"),
        (2, ("runs/0001", "image-0.png", "--out", ""), "'' is no file or folder"),
        (2, ("runs/0001", "image-comparison.png", "--out", "image.npy"), "image-comparison.png would be overwritten"),
        (7, ("runs/0001", "image-0.png", "--out", "text.png/a.npy"), "text.png is not a folder"),
    ],
)
def test_project_refuses_bad_input_and_writes_nothing(finished, code, arguments, problem):
    pictures(finished, 1)
    (finished.folder / "text.png").write_text("no picture")
    np.save(finished.folder / "points.npy", np.array([[1.0, 2.0]], np.float32))
    before = set(finished.folder.rglob("*"))
    assert problem in finished.fails(code, "project", *arguments)
    assert set(finished.folder.rglob("*")) == before
