"""Averages of several half-lives on the command line: each is drawn, measured and exported by its half-life."""

import json
import re
import shlex

import numpy as np
import pytest

from helpers.cli_runner import Gancore

TRAINING = '''
import shutil

from gancore.hookspecs import hookimpl
from gancore.metrics import Measurement, Metric


class Brightness(Metric):
    """The mean of all values. A newer checkpoint is written while it is measured."""

    name = "brightness"
    better = "lower"
    needs = frozenset({"images"})

    def measure(self, inputs):
        shutil.copy("longer/checkpoints/step-00000008.safetensors", "run/checkpoints")
        return Measurement(float(inputs.fake.images.double().mean()))


@hookimpl
def gancore_metrics():
    return [Brightness]
'''


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, trained_run, zygote):
    """A folder with a short run of three half-lives at runs/0001."""
    command = Gancore(tmp_path_factory.mktemp("averaged"), zygote)
    trained_run(command.folder / "runs" / "0001", "--steps", 4, "--set", "ema.more_kimg=[0.05, 2]")
    return command


def test_averages_are_measured_in_one_table(averaged):
    metric = ("evaluate", "runs/0001", "--metric", "fd-random", "-n", 100)
    done = averaged.works(*metric, "--ema", "all")
    assert done.stderr.count("100 images are few for 64 features") == 1
    assert [half for half in ("0.05", "2", "10") if f"100 images, half-life {half} kimg\n" in done.stderr] == [
        *("0.05", "2", "10")
    ]
    shown = done.stdout.splitlines()
    assert shown[0].endswith("step-00000004.safetensors, step 4, averaged weights, seed 0")
    header, row = (re.split(r"  +", line) for line in shown[2:])
    assert header == ["metric", "0.05 kimg", "2 kimg", "10 kimg", "better", "real data"]
    found = json.loads(
        averaged.works(*metric, "--ema", 2, "--ema", 0.05, "--write-statistics", "stats.npz", "--json").stdout
    )
    assert [each["half_life_kimg"] for each in found["averages"]] == [2.0, 0.05]
    assert " ".join(found) == "of step weights half_life_kimg sha256 count seed averages saved statistics"
    assert (found["weights"], found["half_life_kimg"], found["saved"]) == ("average", None, None)
    assert found["statistics"] == "stats.npz"
    assert np.load(averaged.folder / "stats.npz")["mu"].ndim == 1
    values = [each["metrics"]["fd-random"]["value"] for each in found["averages"]]
    np.testing.assert_allclose([float(row[2]), float(row[1])], values, rtol=1e-3)
    assert values[0] != values[1]
    one = averaged.works(*metric, "--ema", 2).stdout.splitlines()
    assert ", averaged weights (half-life 2 kimg), seed 0" in one[0]
    assert float(re.split(r"  +", one[3])[1]) == float(row[2])


def test_averages_are_followed_by_what_to_compare_them_with(finished):
    done = finished.works("evaluate", "runs/0001", "--metric", "density-random", "-n", 100, "--ema", "all")
    assert done.stdout.splitlines()[-1] == "compare each value with that of real data"


def test_averages_are_a_list_even_if_there_is_one(finished):
    done = finished.works("evaluate", "runs/0001", "--metric", "fd-random", "-n", 100, "--ema", "all", "--json")
    assert [each["half_life_kimg"] for each in json.loads(done.stdout)["averages"]] == [1.0]


def test_averages_are_of_one_checkpoint_while_training_writes_others(tmp_path, trained_run, zygote):
    command, several = Gancore(tmp_path, zygote), ("--set", "ema.more_kimg=[0.05, 2]")
    trained_run(tmp_path / "run", "--steps", 4, *several)
    trained_run(tmp_path / "longer", "--steps", 8, *several)
    (tmp_path / "training.py").write_text(TRAINING)
    words = ("--metric", "brightness", "-n", 100, "--json")
    checkpoint = "run/checkpoints/step-00000004.safetensors"
    done = command.works("--plugin", "training.py", "evaluate", "run", *words, "--ema", "all")
    assert (tmp_path / "run/checkpoints/step-00000008.safetensors").exists()
    document = json.loads(done.stdout)
    assert document["of"] == checkpoint
    values = [each["metrics"]["brightness"]["value"] for each in document["averages"]]
    for half_life, value in zip((0.05, 2, 10), values, strict=True):
        one = command.works("--plugin", "training.py", "evaluate", checkpoint, *words, "--ema", half_life)
        assert json.loads(one.stdout)["metrics"]["brightness"]["value"] == value


def test_average_is_drawn_by_its_half_life(averaged):
    for words in ((), ("--ema", 10), ("--ema", 0.05)):
        name = f"{words[-1] if words else 'default'}.npy"
        done = averaged.works("sample", "runs/0001", *words, "--out", name)
        assert (", average of 0.05 kimg: " in done.stdout) == (words == ("--ema", 0.05))
    default, same, other = (np.load(averaged.folder / f"{name}.npy") for name in ("default", 10, 0.05))
    assert np.array_equal(default, same)
    assert not np.array_equal(default, other)


def test_wrong_half_lives_are_named_with_those_of_the_run(averaged):
    error = averaged.fails(2, "export", "runs/0001", "--format", "hub", "--ema", 3)
    assert "no average (EMA) with a half-life of 3 kimg; it keeps 0.05, 2, 10" in error
    assert "--raw and --ema cannot be used together" in averaged.fails(2, "sample", "runs/0001", "--raw", "--ema", 2)
    assert "'all' is not a number" in averaged.fails(2, "sample", "runs/0001", "--ema", "all")
    for words, problem in (
        (("--ema", "x"), "'x' is neither a half-life"),
        (("--ema", "all", "--ema", 2), "all includes every other"),
        (("--ema", 2, "--save"), "leave out what changes them"),
        (("--ema", 2, "--ema", 3), "no average (EMA) with a half-life of 3 kimg"),
    ):
        assert problem in averaged.fails(2, "evaluate", "runs/0001", *words)


def test_average_is_projected_by_its_half_life(averaged):
    averaged.works("sample", "runs/0001", "-n", 1, "--out", "target.png")
    project = ("project", "runs/0001", "target.png", "--steps", 5)
    commands = {}
    for words in ((), ("--ema", 0.05)):
        name = f"{words[-1] if words else 'default'}.npy"
        commands[name] = averaged.works(*project, *words, "--out", name).stdout.splitlines()[-1]
    default, other = (np.load(averaged.folder / name) for name in ("default.npy", "0.05.npy"))
    assert not np.array_equal(default, other)
    assert " --ema 0.05 --out " in commands["0.05.npy"]
    assert "--ema" not in commands["default.npy"]


def test_project_prints_a_command_with_the_exact_half_life_and_the_device(tmp_path, trained_run, zygote):
    command = Gancore(tmp_path, zygote)
    trained_run(tmp_path / "run", "--steps", 4, "--set", "ema.more_kimg=[0.0512345678]")
    command.works("sample", "run", "-n", 1, "--out", "target.png")
    options = ("--steps", 5, "--ema", 0.0512345678, "--device", "cpu")
    line = command.works("project", "run", "target.png", *options).stdout.splitlines()[-1]
    assert " --ema 0.0512345678 --device cpu --out " in line
    command.works(*shlex.split(line.partition(": gancore ")[2]))
