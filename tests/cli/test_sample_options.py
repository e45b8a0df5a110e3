"""What `gancore sample` draws with the options for seeds, classes, latents, walks and animations."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import TensorDataset

from gancore import Dataset, load
from gancore.errors import ConfigError, DataError
from gancore.sampling.directions import find_directions, move
from gancore.sampling.latents import draw_latents, interpolate, parse_seeds, read_latents, truncate
from gancore_cli.sample_options import Wanted
from gancore_cli.sample_plan import Request
from helpers.cli_runner import BY_HAND, Gancore
from helpers.small_runs import small_run
from helpers.tiny_components import catalog

FORKED = True
ABSENT = Wanted(
    count=None, seed=0, seeds=None, labels=(), condition=None, truncation=1.0, latents=None, moves={},
    interpolate=None, frames=None, timelapse=False, grid=None, upscale=None, fps=None,
)  # fmt: skip


def asked(**options):
    return Wanted(**(vars(ABSENT) | options))


@pytest.fixture(scope="module")
def of_classes(tmp_path_factory):
    """A tiny generator that is conditional on three classes."""
    path, known = tmp_path_factory.mktemp("runs") / "classes", catalog()
    parts = {"training": {"conditional": True}, "dataset": {"name": "noise", "labeled": True}, "generator": "mlp"}
    for _ in small_run(path, parts, known=known).train():
        pass
    return load(path, device="cpu", catalog=known)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory, zygote):
    """A folder with a run at `run` that is conditional on the ten digits."""
    command = Gancore(tmp_path_factory.mktemp("conditional"), zygote)
    command.works("train", *BY_HAND, "--steps", 2, "--set", "training.conditional=true", "--out", "run")
    return command


def drawn(plan):
    return torch.cat(list(plan.stream))


@given(
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=5),
    labels=st.lists(st.sampled_from("012"), max_size=3),
    psi=st.just(1.0) | st.floats(0, 1),
    form=st.sampled_from(["picture", "npy", "webp"]),
)
@settings(max_examples=40)
def test_plan_of_seeds_has_the_same_latents_for_each_class(of_classes, seeds, labels, psi, form):
    wanted = asked(seeds=",".join(map(str, seeds)), labels=tuple(labels), truncation=psi)
    plan = Request(of_classes, wanted, None, form).plan()
    latents = truncate(of_classes.seed_latents(seeds), psi)
    if not labels:
        assert torch.equal(drawn(plan), of_classes.generate(latents, torch.arange(len(seeds)) % 3))
        return
    rows = [of_classes.generate(latents, torch.tensor(int(label))) for label in labels]
    order = 1 if form == "webp" else 0  # each frame shows all classes
    assert torch.equal(drawn(plan), torch.stack(rows, dim=order).flatten(0, 1))
    columns = 1 if form == "webp" else len(seeds)
    assert plan.grid == ((len(labels), columns) if len(labels) > 1 and form != "npy" else None)
    assert form != "webp" or plan.per_frame == len(labels)


@given(
    keys=st.lists(st.integers(0, 99), min_size=2, max_size=3, unique=True),
    more=st.integers(0, 5),
    labels=st.lists(st.sampled_from("012"), max_size=2, unique=True),
    count=st.none() | st.integers(1, 3),
    form=st.sampled_from(["picture", "npy", "gif"]),
)
@settings(max_examples=40)
def test_plan_of_a_walk_moves_sample_j_of_each_seed_to_that_of_the_next(of_classes, keys, more, labels, count, form):
    frames, walks, classes = len(keys) + more, count or 1, max(1, len(labels))
    wanted = asked(interpolate=",".join(map(str, keys)), frames=frames, labels=tuple(labels), count=count)
    plan = Request(of_classes, wanted, None, form).plan()
    images = drawn(plan)
    shape = (frames, classes, walks) if form == "gif" else (classes, walks, frames)
    assert len(images) == frames * classes * walks
    table = images.view(*shape, *of_classes.shape)
    settings_ = of_classes.config.latent
    for walk in range(walks):
        latents = interpolate(torch.cat([draw_latents(settings_, key, walk, walk + 1) for key in keys]), frames)
        for row in range(classes):
            label = int(labels[row]) if labels else walk % 3
            expected = of_classes.generate(latents, torch.tensor(label))
            assert torch.equal(table[:, row, walk] if form == "gif" else table[row, walk], expected)
    assert form != "gif" or plan.per_frame == classes * walks


def test_plan_moves_latents_along_directions_after_truncation(of_classes):
    plan = Request(of_classes, asked(seeds="3,4", truncation=0.5, moves={1: 2.0}), None, "npy").plan()
    latents = move(find_directions(of_classes), of_classes.seed_latents([3, 4]) * 0.5, {1: 2.0})
    assert torch.equal(drawn(plan), of_classes.generate(latents))
    assert not torch.equal(drawn(plan), of_classes.generate(of_classes.seed_latents([3, 4]) * 0.5))


@pytest.mark.parametrize(
    ("options", "form", "count", "grid"),
    [
        ({}, "picture", 64, None),
        ({"grid": (2, 5)}, "picture", 10, (2, 5)),
        ({"labels": ("0", "2")}, "picture", 16, (2, 8)),
        ({"labels": ("0", "2")}, "folder", 16, None),
        ({"labels": ("0", "2"), "grid": (2, 3)}, "picture", 6, (2, 3)),
        ({"labels": ("0", "2"), "count": 4}, "mp4", 8, (2, 1)),
        ({"interpolate": "1,2"}, "webp", 60, None),
        ({"interpolate": "1,2", "grid": (3, 5)}, "picture", 15, (3, 5)),
        ({"interpolate": "1,2", "grid": (3, 5), "frames": 2}, "webp", 30, (3, 5)),
        ({"interpolate": "1,2", "labels": ("0", "1"), "grid": (2, 5), "frames": 2}, "webp", 20, (2, 5)),
        ({"interpolate": "1,2", "labels": ("0", "1"), "grid": (2, 5)}, "picture", 10, (2, 5)),
        ({"interpolate": "1,2", "count": 3, "frames": 4}, "picture", 12, (3, 4)),
        ({"seeds": "0-11", "grid": (2, 2)}, "webp", 12, (2, 2)),
    ],
)
def test_plan_chooses_numbers_and_the_grid(of_classes, options, form, count, grid):
    plan = Request(of_classes, asked(**options), None, form).plan()
    assert (plan.stream.count, plan.grid) == (count, grid)


def test_plan_refuses_a_grid_whose_rows_are_not_the_classes(of_classes):
    with pytest.raises(ConfigError, match="the 2 classes, or walks, are the rows") as error:
        Request(of_classes, asked(labels=("0", "2"), seeds="0-5", grid=(3, 4)), None, "picture").plan()
    assert error.value.hint == "use 2 x 6"


def save(path, array):
    if path.suffix == ".npz":
        np.savez(path, latents=array, other=np.zeros(3))
    elif path.suffix == ".safetensors":
        safetensors.torch.save_file({"latents": torch.from_numpy(array), "other": torch.zeros(3)}, path)
    else:
        np.save(path, array)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_latents_of_a_file_are_read_to_the_same_bits(tmp_path, suffix):
    latents = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    assert torch.equal(read_latents(save(tmp_path / f"a{suffix}", latents), 5), torch.from_numpy(latents))
    assert torch.equal(read_latents(save(tmp_path / f"b{suffix}", latents[0]), 5), torch.from_numpy(latents[:1]))
    with pytest.raises(DataError, match=r"shape \(N, 6\).*received shape \(3, 5\)"):
        read_latents(tmp_path / f"a{suffix}", 6)
    whole = (tmp_path / f"a{suffix}").read_bytes()
    for part in (whole[:-9], whole[:40], b""):
        (tmp_path / f"c{suffix}").write_bytes(part)
        with pytest.raises(DataError, match="cannot be read as latents"):
            read_latents(tmp_path / f"c{suffix}", 5)


def test_latents_with_pickled_objects_or_several_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, None], dtype=object))
    np.savez(tmp_path / "b.npz", one=np.zeros((1, 5)), two=np.zeros((1, 5)))
    np.savez(tmp_path / "c.npz", latents=np.array([{}], dtype=object))
    (tmp_path / "d.txt").write_text("1 2 3")
    np.save(tmp_path / "e.npy", np.array(["a", "b"]))
    (tmp_path / "f.npy").write_bytes((tmp_path / "e.npy").read_bytes().replace(b"(2,), }", b"(9**9,), }"))
    np.save(tmp_path / "g.npy", np.zeros((8, 64)))
    (tmp_path / "g.npy").write_bytes((tmp_path / "g.npy").read_bytes().replace(b"(8, 64)", b"(-1,64)"))
    (tmp_path / "h.npy").write_bytes(b"\x93NUMPY\x01\x00\x04\x00((((")
    os.mkfifo(tmp_path / "i.npy")
    for name in ("a.npy", "b.npz", "c.npz", "d.txt", "e.npy", "f.npy", "g.npy", "h.npy", "i.npy"):
        with pytest.raises(DataError, match=name):
            read_latents(tmp_path / name, 5)


def test_latents_in_the_byte_order_of_another_machine_are_read(tmp_path):
    latents = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.save(tmp_path / "big.npy", latents.astype(">f4"))
    np.savez(tmp_path / "big.npz", latents.astype(">f4"))
    for name in ("big.npy", "big.npz"):
        assert torch.equal(read_latents(tmp_path / name, 5), torch.from_numpy(latents))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_latents_that_take_too_much_memory_are_refused_before_they_are_read(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", np.zeros((3, 5), np.float32))
    if suffix == ".npz":
        content = bytearray(path.read_bytes())
        at = content.index(b"PK\x01\x02") + 24  # of the first member, as the list at the end declares it
        content[at : at + 4] = (2 << 30).to_bytes(4, "little")
        path.write_bytes(content)
    else:
        os.truncate(path, 2 << 30)
    with pytest.raises(DataError, match="2,147,483,648 bytes; the most is 1,073,741,824"):
        read_latents(path, 5)


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
        (["--fps", 3], "fps has no effect on samples.png"),
        (["--upscale", 2, "--out", "a.npy"], r"upscale has no effect on a.npy"),
        (["--grid", "3x4", "-n", 5], "a grid of 3 x 4 does not show 5 samples"),
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
    options = "run", "--class", 3, "--class", 7, "--seeds", "0-4", "--out", "a.png"
    done = conditional.works("sample", *options)
    assert done.stdout == "10 samples of step 2, with a row for each class: 3, 7: a.png\n"
    document = json.loads(conditional.works("sample", *options, "--json").stdout)
    assert (document["count"], document["rows"], document["grid"]) == (10, ["3", "7"], [2, 5])
    assert (document["seed"], document["seeds"], document["class"]) == (None, "0-4", None)
    with Image.open(conditional.folder / "a.png") as shown:
        assert shown.size == ((5 * 9 + 1) * 8, (2 * 9 + 1) * 8)


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


@pytest.mark.parametrize("options", [{"seeds": "4-6"}, {"interpolate": "1,2", "frames": 4, "count": 3}])
@pytest.mark.parametrize("form", ["npy", "webp"])
def test_plan_gives_a_condition_to_each_sample_or_walk_or_one_to_all(of_vectors, options, form):
    each, walks = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), "interpolate" in options
    latents = of_vectors.seed_latents([4, 5, 6]).unsqueeze(1)  # a frame each
    if walks:
        keys = torch.stack([draw_latents(of_vectors.config.latent, seed, 0, 3) for seed in (1, 2)])
        latents = torch.stack([interpolate(keys[:, walk], 4) for walk in range(3)], dim=1)
    for conditions in (each, each[0]):
        images = drawn(Request(of_vectors, asked(**options), conditions, form).plan())
        own = conditions.expand(3, 2)
        expected = torch.stack(
            [of_vectors.generate(frame, own if walks else own[number]) for number, frame in enumerate(latents)]
        )
        expected = expected.transpose(0, 1) if walks and form == "npy" else expected
        assert torch.equal(images, expected.flatten(0, 1))
    with pytest.raises(ConfigError, match="2 conditions do not fit 3 samples"):
        Request(of_vectors, asked(**options), each[:2], form).plan()


class Turned(Dataset):
    """Images of one gray each, with two numbers as the condition."""

    name = "turned"

    def build(self, root):
        numbers = torch.linspace(-1, 1, 24).unsqueeze(1).repeat(1, 2)
        return TensorDataset((127.5 * (numbers[:, :1] + 1)).byte().view(-1, 1, 1, 1).expand(-1, 1, 4, 4), numbers)


@pytest.fixture(scope="module")
def of_vectors(tmp_path_factory):
    """A tiny generator that is conditional on two numbers."""
    parts = {"training": {"conditional": True}, "generator": "mlp", "discriminator": "mlp"}
    run = small_run(tmp_path_factory.mktemp("runs") / "vectors", parts, dataset=Turned())
    for _ in run.train():
        pass
    return run.load()
