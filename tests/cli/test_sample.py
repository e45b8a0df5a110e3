import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from gancore.contracts import Spec
from gancore.run.interrupt import Interruption
from gancore.sampling.draw import SampleStream
from gancore.sampling.trained import TrainedGenerator
from gancore.sampling.write import written
from gancore.utils.sample_format import UINT8
from gancore_cli.sample import _interruptible, _other_number
from gancore_cli.signals import Interrupted

FORKED = True
SPY = """
import sys, torch
from gancore.utils.meta import without_memory
from gancore_cli.main import main
try:
    main(["sample", "runs/0001", "-n", "1", "--out", "one.png"])
except SystemExit:
    pass
with without_memory():
    torch.empty(2).normal_()
print(sorted({"torch._dynamo", "torchvision", "rich", "sklearn"} & sys.modules.keys()), file=sys.stderr)
"""


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_samples_are_the_same_in_a_picture_an_array_a_tensor_and_a_folder(finished):
    for out in ("a.png", "a.npy", "a.safetensors", "folder"):
        done = finished.works("sample", "runs/0001", "-n", 5, "--seed", 7, "--out", out)
        assert done.stdout == f"5 samples of step 4: {out}\n"
    array = np.load(finished.folder / "a.npy")
    tensor = safetensors.torch.load_file(finished.folder / "a.safetensors")["samples"]
    pictures = [pixels(path) for path in sorted((finished.folder / "folder").iterdir())]
    assert (array.shape, array.dtype) == ((5, 1, 8, 8), np.uint8)
    assert torch.equal(tensor, torch.from_numpy(array))
    assert np.array_equal(np.stack(pictures), array[:, 0])
    assert pixels(finished.folder / "a.png").shape == (19 * 8, 28 * 8)  # 2 by 3 framed tiles of 8, enlarged by 8


def test_sample_imports_no_unused_packages(finished):
    """Optimizers, and random numbers on the `meta` device, would import torch's compiler."""
    done = subprocess.run([sys.executable, "-c", SPY], cwd=finished.folder, capture_output=True, text=True)
    assert done.stdout == "1 sample of step 4: one.png\n"
    assert done.stderr == "[]\n"


def test_larger_count_begins_with_the_same_samples(finished):
    finished.works("sample", "runs/0001", "-n", 3, "--out", "few.npy")
    finished.works("sample", "runs/0001", "-n", 70, "--out", "many.npy")
    finished.works("sample", "runs/0001", "-n", 3, "--seed", 1, "--out", "other.npy")
    few, many, other = (np.load(finished.folder / f"{name}.npy") for name in ("few", "many", "other"))
    assert np.array_equal(few, many[:3])
    assert not np.array_equal(few, other)


def test_sample_takes_a_checkpoint_and_raw_weights(finished):
    first = "runs/0001/checkpoints/step-00000000.safetensors"
    document = json.loads(finished.works("sample", first, "-n", 2, "--out", "zero.npy", "--json").stdout)
    assert document == {
        "out": "zero.npy",
        "replaced": False,
        "count": 2,
        "seed": 0,
        "seeds": None,
        "latents": None,
        "truncation": 1.0,
        "moves": {},
        "shape": [2, 1, 8, 8],
        "step": 0,
        "half_life_kimg": 1.0,
        "class": None,
        "class_number": None,
        "rows": [],
        "grid": None,
        "frames": None,
        "classes": [],
    }
    finished.works("sample", "runs/0001", "-n", 9, "--out", "average.npy")
    finished.works("sample", "runs/0001", "-n", 9, "--raw", "--out", "raw.npy")
    average, raw = (np.load(finished.folder / f"{name}.npy") for name in ("average", "raw"))
    assert not np.array_equal(average, raw)


def test_sample_says_which_file_it_replaced(finished):
    for out in ([], ["--timelapse"]):
        said = [finished.works("sample", "runs/0001", *out).stdout.splitlines()[1:] for _ in range(2)]
        name = "timelapse.webp" if out else "samples.png"
        assert said == [[], [f"replaced: {name}"]]
        assert json.loads(finished.works("sample", "runs/0001", *out, "--json").stdout)["replaced"] is True
        assert finished.works("sample", "runs/0001", *out, "-q").stdout == ""
    (finished.folder / "gone.npy").symlink_to("nowhere")
    assert "replaced: gone.npy" in finished.works("sample", "runs/0001", "-n", 1, "--out", "gone.npy").stdout
    (finished.folder / "empty").mkdir()
    assert "replaced" not in finished.works("sample", "runs/0001", "-n", 1, "--out", "empty").stdout


def test_sample_rejects_a_wrong_file_type_class_and_folder(finished):
    assert ".jpg" in finished.fails(2, "sample", "runs/0001", "--out", "a.jpg")
    assert "not conditional" in finished.fails(2, "sample", "runs/0001", "--class", 3)
    (finished.folder / "a-file").write_text("")
    assert "a-file" in finished.fails(7, "sample", "runs/0001", "--out", "a-file/a.png")


def test_class_option_of_a_conditional_run(gancore):
    gancore.works(
        "train", "--generator", "mlp", "--discriminator", "mlp", "--loss", "bce", "--dataset", "digits",
        "--steps", 2, "--set", "training.conditional=true", "--out", "run",
    )  # fmt: skip
    done = gancore.works("sample", "run", "-n", 2, "--class", 9, "--out", "nine.npy")
    assert done.stdout == "2 samples of class 9 of step 2: nine.npy\n"
    assert "0..9" in gancore.fails(2, "sample", "run", "--class", 10)


@pytest.mark.parametrize(
    ("number", "out", "code", "what"),
    [
        (signal.SIGINT, "many.npy", 130, "interrupted"),
        (signal.SIGTERM, "many.npy", 143, "terminated"),
        (signal.SIGINT, "many", 130, "interrupted"),
        (signal.SIGKILL, "many.npy", -9, None),
    ],
)
def test_sample_that_a_signal_ends_keeps_whole_samples(finished, zygote, tmp_path, number, out, code, what):
    run, count = finished.folder / "runs" / "0001", 5_000_000
    process = zygote.start(tmp_path, "sample", run, "-n", count, "--out", out)
    assert zygote.wait_for_line(process).startswith("drawing samples")
    os.kill(process, number)
    done = zygote.wait(process)
    assert (done.returncode, done.stdout) == (code, "")
    if what is None:
        assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
        return
    partial = tmp_path / out if out == "many" else tmp_path / "many.partial.npy"
    kept = len(list(partial.iterdir())) if out == "many" else len(np.load(partial))
    assert kept % 64 == 0
    said = [f"error: {what}", f"kept: {kept:,} of {count:,} samples in {partial.name}"]
    assert done.stderr.splitlines()[-3:-1] == said
    assert list(tmp_path.iterdir()) == [partial]
    finished.works("sample", run, "-n", 3, "--out", tmp_path / "few.npy")
    first = np.load(tmp_path / "few.npy")[0, 0]
    assert np.array_equal(pixels(partial / "0000000.png") if out == "many" else np.load(partial)[0, 0], first)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("1", "--class 1 is the name of class number 0; number 1 is class 2"),
        ("2", "--class 2 is the name of class number 1; number 2 is class cat"),
        ("0", None),
        ("cat", None),
    ],
)
def test_name_that_is_the_number_of_another_class_is_a_warning(label, words):
    spec = Spec((1, 4, 4), 8, 3)
    trained = TrainedGenerator(nn.Identity(), None, spec, UINT8, 1, "cpu", False, Path(), "", ("1", "2", "cat"))
    number = {"1": 0, "2": 1, "0": 0, "cat": 2}[label]
    assert trained.class_number(label) == number
    assert list(_other_number(trained, label)) == ([words] if words else [])


@pytest.mark.parametrize(("number", "kept"), [(0, ""), (1, ""), (3, "2 of 2 samples in a.npy")])
def test_interruption_is_complete_only_after_the_last_sample(number, kept):
    writing, stop = (done for done in range(2)), Interruption()
    for _ in range(number):
        next(writing, None)
    with pytest.raises(Interrupted) as error, _interruptible(stop, writing, 2, Path("a.npy")):
        stop.arrive(signal.SIGINT)
    assert error.value.kept == kept


@pytest.mark.parametrize(("shape", "name"), [((2,), "a.webp"), ((1, 4, 4), "a.webp"), ((2,), "a.npy")])
def test_interruption_before_the_first_sample_keeps_nothing(tmp_path, shape, name):
    stop = Interruption()

    def chunk(start):
        stop.arrive(signal.SIGINT)
        stop.check()

    writing = written(SampleStream(4, shape, torch.float32, chunk), tmp_path / name)
    with pytest.raises(Interrupted) as error, _interruptible(stop, writing, 4, tmp_path / name):
        list(writing)
    assert error.value.kept == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "kept", "hint"),
    [
        ("", "3 of 9 samples in here", "run the command again with another --out to draw all of them"),
        ("", "", "run the command again to draw all of them"),
        ("a.npy", "3 of 9 samples in a.partial.npy", "run the command again to draw all of them"),
    ],
)
def test_interruption_names_another_folder_only_if_samples_are_in_this_one(tmp_path, out, kept, hint):
    interrupt = KeyboardInterrupt()
    interrupt.kept = kept
    with pytest.raises(Interrupted) as error, _interruptible(Interruption(), (_ for _ in ()), 9, tmp_path / out):
        raise interrupt
    assert (error.value.kept, error.value.hint) == (kept, hint)


def test_sample_refuses_counts_that_the_disk_cannot_hold(finished):
    assert "1,000,000,000,000 samples take about 64 TB" in finished.fails(
        7, "sample", "runs/0001", "-n", 10**12, "--out", "absurd.npy"
    )
    assert "one picture shows at most" in finished.fails(2, "sample", "runs/0001", "-n", 10**12)
    assert not (finished.folder / "absurd.npy").exists()


def test_default_file_of_a_run_on_a_table_is_a_table(gancore):
    rows = [f"{number},{number % 7},{number % 3}" for number in range(40)]
    (gancore.folder / "table.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    done = gancore.works("train", "table.csv", "--steps", 1, "--out", "run")
    command = next(line for line in done.stdout.splitlines() if line.startswith("next:"))
    assert command.split() == ["next:", "gancore", "sample", "run", "-n", "64", "--out", "samples.csv"]
    assert gancore.works("sample", "run", "-n", 2).stdout == "2 samples of step 1: samples.csv\n"


def test_sample_and_evaluate_pass_over_damaged_files_of_a_run_with_a_warning(finished, gancore):
    shutil.copytree(finished.folder / "runs" / "0001", gancore.folder / "run")
    newest = gancore.folder / "run" / "checkpoints" / "step-00000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    (gancore.folder / "run" / "manifest.json").write_bytes(b"\0" * 9)
    for command in (("sample", "run", "-n", 2), ("evaluate", "run", "-n", 20, "--metric", "kid-random")):
        done = gancore.works(*command)
        assert "step-00000000.safetensors is used" in done.stderr
        assert "warning: run/manifest.json is damaged: it is not JSON" in done.stderr
    gancore.fails(4, "sample", newest)
